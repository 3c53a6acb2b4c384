"""How it is asked: the Falcon application, one module per resource family.

Besides ``tickview serve`` there are two ways to run it, one line each, with the settings from the environment:
``init_app`` adds it to a Falcon application that somebody has, ``create_app`` makes one to mount under another.
"""

from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import projections
from readapi.http.asgi import AsgiApplication

if TYPE_CHECKING:
    from falcon.asgi import App

TICKVIEW_PACKAGE = True
"""Distinguishes this package from another package named ``readapi``."""


def _check_package(package: ModuleType) -> None:
    """Refuse a package of the application that has the name of a TickView package. Raises ImportError."""
    if not getattr(package, "TICKVIEW_PACKAGE", False):
        raise ImportError(
            f"TickView needs its own package '{package.__name__}', but {package.__file__ or package.__path__[0]} was "
            "imported. Rename that package, or run TickView in an environment of its own."
        )


_check_package(projections)

SERVICES = "readapi.services"
"""The group of entry points in which whoever has stores and settings offers an ``EmbeddedService``."""


class EmbeddedService(Protocol):
    """The whole service, to be put into somebody else's process."""

    def add_to(self, host: "App[Any, Any] | None") -> "App[Any, Any]":
        """Add it to a Falcon application, or make one. It starts with the application, or with its first request."""
        ...


def init_app(app: "App[Any, Any]") -> None:
    """Add all routes to a Falcon ASGI application: call it once, before the first request.

    Raises TypeError for an application that is not ``falcon.asgi.App``, and what ``tickview serve`` is refused for.
    """
    from falcon.asgi import App

    if not isinstance(app, App):
        raise TypeError(f"init_app needs a falcon.asgi.App, not {type(app).__module__}.{type(app).__qualname__}")
    _service().add_to(app)


def create_app() -> AsgiApplication:
    """An ASGI application to mount under Starlette, FastAPI or Django, at any prefix.

    Raises what ``tickview serve`` is refused for.
    """
    from readapi.http.mounting import without_prefix

    return without_prefix(_service().add_to(None))


def _service() -> EmbeddedService:
    from importlib import import_module
    from importlib.metadata import entry_points

    [offered] = entry_points(group=SERVICES)
    _check_package(import_module(offered.module.partition(".")[0]))
    service: EmbeddedService = offered.load()
    return service
