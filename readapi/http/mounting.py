"""Runs the application inside another: at any prefix, and also where nobody tells it to start."""

import asyncio
from collections.abc import Mapping
from typing import Any

from falcon.asgi import Request, Response, WebSocket

from readapi.http.asgi import AsgiApplication, Lifespan


def without_prefix(application: AsgiApplication) -> AsgiApplication:
    """The application, which finds its routes whatever it is mounted under (``root_path``)."""

    async def mounted(scope: dict[str, Any], receive: Any, send: Any) -> None:
        prefix, path = scope.get("root_path", ""), scope.get("path", "")
        if prefix and path.startswith(f"{prefix}/"):
            scope = {**scope, "path": path[len(prefix) :]}
        await application(scope, receive, send)

    return mounted


class StartedInTime:
    """Falcon middleware that starts a process with the application, or, where nobody says so, with its first request.

    Starlette and FastAPI do not tell what is mounted under them when they start, and Django tells nobody.
    """

    def __init__(self, process: Lifespan) -> None:
        self._process = process
        self._lock = asyncio.Lock()
        self._is_started = False

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """The application starts."""
        async with self._lock:
            if not self._is_started:
                await self._process.process_startup(scope, event)
                self._is_started = True

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """It stops."""
        if self._is_started:
            await self._process.process_shutdown(scope, event)

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Start before the first request is answered."""
        if not self._is_started:
            await self.process_startup(req.scope, {})

    async def process_request_ws(self, req: Request, _ws: WebSocket) -> None:
        """The same."""
        if not self._is_started:
            await self.process_startup(req.scope, {})
