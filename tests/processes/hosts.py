"""Applications of other frameworks, each with TickView added by one line. The tests run them with uvicorn by name."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import readapi


class OwnRoute:
    """A route of the host application."""

    async def on_get(self, _req: Any, resp: Any) -> None:
        """Respond with the marker of the host application."""
        resp.media = {"own": True}

    async def on_delete(self, _req: Any, _resp: Any) -> None:
        """Fail with an error of the host application."""
        raise ZeroDivisionError


def falcon_app() -> Any:
    """Create a Falcon application with an error handler of its own."""
    from falcon.asgi import App

    async def on_fault(_req: Any, resp: Any, _error: Exception, _params: Any) -> None:
        resp.status, resp.media = 500, {"own": "fault"}

    app = App()
    app.add_error_handler(ZeroDivisionError, on_fault)
    app.add_route("/own", OwnRoute())
    readapi.init_app(app)
    return app


def starlette_app() -> Any:
    """Create a Starlette application with TickView mounted at a prefix."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route

    async def own(_request: Any) -> JSONResponse:
        return JSONResponse({"own": True})

    return Starlette(routes=[Route("/own", own), Mount("/market", readapi.create_app())])


def fastapi_app() -> Any:
    """Create a FastAPI application that has a lifespan of its own and TickView mounted at a prefix."""
    from fastapi import FastAPI

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/own")
    def own() -> dict[str, bool]:
        return {"own": True}

    app.mount("/market", readapi.create_app())
    readapi.include_in_docs(app)
    return app


def flask_app() -> Any:
    """Create a Flask application that reads each body before its routes do."""
    from flask import Flask, jsonify, request

    app = Flask(__name__)

    @app.before_request
    def read_body() -> None:
        request.get_json(silent=True)

    @app.route("/own")
    def own() -> Any:
        return jsonify(own=True)

    @app.route("/api/health/live")
    def live() -> Any:
        return jsonify(own=True)

    assert readapi.init_app(app)
    return app


def django_app() -> Any:
    """Create an ASGI application that routes TickView's paths to TickView and all other paths to Django."""
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import JsonResponse
    from django.urls import path

    settings.configure(
        ROOT_URLCONF=(path("own", lambda _request: JsonResponse({"own": True})),),
        SECRET_KEY=os.urandom(16).hex(),
        ALLOWED_HOSTS=["127.0.0.1"],
    )
    django, tickview = get_asgi_application(), readapi.create_app()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        prefixes = ("/api/", "/ws", "/openapi.json", "/console")
        to_tickview = scope["type"] != "lifespan" and scope["path"].startswith(prefixes)
        await (tickview if to_tickview else django)(scope, receive, send)

    return application
