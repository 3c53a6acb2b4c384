"""The query API: a Falcon application with one package for each family of resources.

``tickview serve`` runs it. Two functions run it inside another application, with the settings from the environment:
``init_app`` adds its routes to a Falcon application, ``create_app`` returns an ASGI application to mount.

The functions of this module import Falcon when they are called: the command line imports the ports of this package and
must not load Falcon for them.
"""

from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import projections
from readapi.http.asgi import AsgiApplication

if TYPE_CHECKING:
    from falcon.asgi import App

TICKVIEW_PACKAGE = True
"""Distinguishes this package from another package named ``readapi``."""


def _check_package(package: ModuleType) -> None:
    """Refuse a package of another application that has the name of a TickView package.

    Raises:
        ImportError: The package is not TickView's.
    """
    if not getattr(package, "TICKVIEW_PACKAGE", False):
        raise ImportError(
            f"TickView needs its own package '{package.__name__}', but {package.__file__ or package.__path__[0]} was "
            "imported. Rename that package, or run TickView in an environment of its own."
        )


_check_package(projections)

SERVICES = "readapi.services"
"""Group of the entry point that provides the ``EmbeddedService``. This package must not import ``infra`` itself."""


class EmbeddedService(Protocol):
    """The service in the process of another application."""

    def add_to(self, host: "App[Any, Any] | None") -> "App[Any, Any]":
        """Add all routes to a host application, or create an application if ``host`` is None.

        The service starts with the application, or at the latest with its first request.
        """
        ...


def init_app(app: "App[Any, Any]") -> None:
    """Add all routes of TickView to a Falcon ASGI application. Call this once, before the first request.

    Args:
        app: The application.

    Raises:
        TypeError: The application is not a ``falcon.asgi.App``.
        StartupError: Redis or a plug-in cannot be used, or a file with tokens or keys cannot be read.
        pydantic.ValidationError: A setting is invalid.
    """
    from falcon.asgi import App

    if not isinstance(app, App):
        raise TypeError(f"init_app needs a falcon.asgi.App, not {type(app).__module__}.{type(app).__qualname__}")
    _service().add_to(app)


def create_app() -> AsgiApplication:
    """Create an ASGI application to mount under Starlette, FastAPI or Django, at any prefix.

    Raises:
        StartupError: Redis or a plug-in cannot be used, or a file with tokens or keys cannot be read.
        pydantic.ValidationError: A setting is invalid.
    """
    from readapi.http.mounting import without_prefix

    return without_prefix(_service().add_to(None))


def _service() -> EmbeddedService:
    [entry_point] = entry_points(group=SERVICES)
    _check_package(import_module(entry_point.module.partition(".")[0]))
    service: EmbeddedService = entry_point.load()
    return service
