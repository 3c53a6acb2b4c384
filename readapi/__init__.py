"""The query API: a Falcon application with one package for each family of resources.

``tickview serve`` runs it. Two functions run it inside another application, with the settings from the environment:
``init_app`` adds its routes to a Falcon or Flask application, ``create_app`` returns an ASGI application to mount.
Nothing connects before the start of the application.

The functions of this module import Falcon when they are called: the command line imports the ports of this package and
must not load Falcon for them.
"""

import sys
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import projections

if TYPE_CHECKING:
    from falcon.asgi import App
    from fastapi import FastAPI
    from flask import Flask

    from readapi.http.mounting import MountedApplication

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


def init_app(app: "App[Any, Any] | Flask") -> Literal[True]:
    """Add all routes of TickView to a Falcon ASGI application or a Flask application. Call this once.

    Args:
        app: The application, before its first request. Flask needs the extra ``flask``.

    Returns:
        True: the routes are added.

    Raises:
        TypeError: The application is neither a ``falcon.asgi.App`` nor a ``flask.Flask``.
        ImportError: The extra ``flask`` is not installed.
        StartupError: No Redis is configured, a plug-in cannot be used, or a file with tokens or keys cannot be read.
        pydantic.ValidationError: A setting is invalid.
    """
    from falcon.asgi import App

    flask = sys.modules.get("flask")
    if flask is not None and isinstance(app, flask.Flask):
        _add_to_flask(app)
    elif isinstance(app, App):
        _service().add_to(app)
    else:
        names = f"{type(app).__module__}.{type(app).__qualname__}"
        raise TypeError(f"init_app needs a falcon.asgi.App or a flask.Flask, not {names}")
    return True


def _add_to_flask(app: "Flask") -> None:
    from falcon.inspect import inspect_routes

    from readapi.http.mounting import MountedApplication

    try:
        from readapi.http.flask_bridge import add_to_flask
    except ModuleNotFoundError as error:
        raise ImportError("init_app needs a2wsgi for a Flask application: install tickview[flask]") from error
    application = _service().add_to(None)
    # The root and the API reference belong to the host, as in a Falcon application.
    paths = [route.path for route in inspect_routes(application) if route.path not in ("/", "/docs")]
    add_to_flask(app, MountedApplication(application), paths)


def create_app() -> "MountedApplication":
    """Create an ASGI application to mount under Starlette, FastAPI or Django, at any prefix.

    Raises:
        StartupError: No Redis is configured, a plug-in cannot be used, or a file with tokens or keys cannot be read.
        pydantic.ValidationError: A setting is invalid.
    """
    from readapi.http.mounting import MountedApplication

    return MountedApplication(_service().add_to(None))


def include_in_docs(app: "FastAPI") -> None:
    """Let ``/docs`` of a FastAPI application include the TickView that is mounted in it.

    Args:
        app: The application.
    """
    from readapi.http.host_docs import include_in_docs

    include_in_docs(app)


def _service() -> EmbeddedService:
    [entry_point] = entry_points(group=SERVICES)
    _check_package(import_module(entry_point.module.partition(".")[0]))
    service: EmbeddedService = entry_point.load()
    return service
