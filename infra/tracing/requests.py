"""The spans of requests."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from falcon.asgi import Request, Response
from opentelemetry.trace import SpanKind, StatusCode

from infra.tracing import tracing
from infra.tracing.spans import start_span, traceparent_of


class TracedRequests:
    """Falcon middleware that makes a span of each request, and exports the spans of its process.

    The span ends when the response begins, so that a stream of live push is no endless span.
    """

    def __init__(self) -> None:
        self._export = ExitStack()
        self._process: int | None = None

    async def process_startup(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Start the export. The application may have been built before a fork, which would end the export's thread."""
        self._start()

    async def process_shutdown(self, _scope: Mapping[str, Any], _event: Mapping[str, Any]) -> None:
        """Export the last spans."""
        self._export.close()

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Start the span, as a child of the client's span."""
        self._start()  # A host application may not tell its middleware that the process starts.
        attributes = {"http.request.method": req.method, "url.path": req.path}
        span = start_span(req.method, req.get_header("traceparent"), SpanKind.SERVER, attributes)
        req.context.span = span
        if span.is_recording():  # Otherwise every event of a request would name a trace that nobody sees.
            req.context.traceparent = traceparent_of(span)

    async def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:
        """End the span, with the route and the status of the response."""
        span = getattr(req.context, "span", None)
        if span is None:
            return  # Middleware of the host application refused the request before this middleware ran.
        if req.uri_template:
            span.update_name(f"{req.method} {req.uri_template}")
            span.set_attribute("http.route", req.uri_template)
        span.set_attribute("http.response.status_code", resp.status_code)
        if resp.status_code >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def _start(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._export.enter_context(tracing("serve"))
