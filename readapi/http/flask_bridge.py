"""TickView in a Flask application: its routes, and a bridge from WSGI to ASGI."""

import re
from collections.abc import Iterable
from io import BytesIO
from threading import Lock
from typing import Any

import structlog
from a2wsgi import ASGIMiddleware
from flask import Flask, request
from werkzeug import Response

from readapi.http.asgi import AsgiApplication

logger = structlog.get_logger()

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
"""Methods that are forwarded. TickView answers with 405 if it does not support one of them."""

MAX_BODY_BYTES = 67_108_864
"""Highest number of bytes of a body that is read before it is forwarded. TickView refuses larger bodies unread."""


class WsgiBridge:
    """A WSGI application that forwards requests to an ASGI application.

    The event loop runs in a thread. The thread starts with the first request, so that the server may fork before.

    Args:
        application: The ASGI application.
    """

    def __init__(self, application: AsgiApplication) -> None:
        self._application = application
        self._starting = Lock()
        self._bridge: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Forward one request."""
        with self._starting:
            if self._bridge is None:
                self._bridge = ASGIMiddleware(self._application)  # type: ignore[arg-type]
        # The bridge drops the address of the client if the server does not name the port.
        environ.setdefault("REMOTE_PORT", "0")
        chunks: Iterable[bytes] = self._bridge(environ, start_response)
        return chunks


def add_to_flask(app: Flask, application: AsgiApplication, paths: Iterable[str]) -> None:
    """Add routes to a Flask application. A route that the application has already is kept, and logged.

    Args:
        app: The Flask application.
        application: TickView as an ASGI application.
        paths: The paths of TickView, as Falcon's URI templates.
    """
    bridge = WsgiBridge(application)

    def forward(**_parameters: str) -> Response:
        if (request.content_length or 0) <= MAX_BODY_BYTES:
            # A hook of the application may have read the body before.
            body = request.get_data()
            request.environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body)) if body else ""}
        return Response.from_app(bridge, request.environ)

    existing = {_shape(rule.rule) for rule in app.url_map.iter_rules()}
    kept = []
    for path in paths:
        rule = flask_rule(path)
        if _shape(rule) in existing:
            kept.append(rule)
            continue
        app.add_url_rule(rule, f"tickview {path}", forward, methods=METHODS, provide_automatic_options=False)
    if kept:
        logger.warning("the application has routes of TickView already, and keeps its own", routes=kept)


def flask_rule(path: str) -> str:
    """Return the URL rule of Flask for a URI template of Falcon. Variables with a converter may contain slashes."""
    return re.sub(r"\{(\w+)(:?)\w*\}", lambda part: f"<{'path:' if part[2] else ''}{part[1]}>", path)


def _shape(rule: str) -> str:
    """Return a URL rule without the names of its variables."""
    return re.sub("<[^>]*>", "<>", rule)
