"""TickView inside another application: at any path prefix, and without a start-up event from the host."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from falcon.asgi import App, Request, Response, WebSocket

from readapi.http.asgi import AsgiApplication, Lifespan
from readapi.http.immediate import AnswerImmediately
from readapi.http.openapi import DocumentResource

SOCKET_IO_PATH = "/socket.io/"
"""Start of the paths of Socket.IO."""


class DocumentedApplication(App[Any, Any]):
    """A Falcon application with its OpenAPI document."""

    openapi: DocumentResource
    socket_io: AsgiApplication | None = None
    """Serves the paths below ``/socket.io/``. None if Socket.IO is not installed."""
    answer_immediately: AnswerImmediately | None = None
    """Answers requests from memory (see ``readapi.http.immediate``). None if every request goes through Falcon."""


class MountedApplication:
    """An ASGI application with Socket.IO that finds its routes under any prefix (``root_path`` of the ASGI scope).

    Args:
        application: The application, which must be documented.
    """

    def __init__(self, application: App[Any, Any]) -> None:
        assert isinstance(application, DocumentedApplication)
        self._application = application
        self.answer_immediately = application.answer_immediately

    @property
    def document(self) -> Mapping[str, Any]:
        """The OpenAPI document, with paths without the prefix."""
        return self._application.openapi.document

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve a connection."""
        prefix, path = scope.get("root_path", ""), scope.get("path", "")
        if prefix and path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
            scope = {**scope, "path": path}
        if path.startswith(SOCKET_IO_PATH) and self._application.socket_io is not None:
            await self._application.socket_io(scope, receive, send)
        else:
            await self._application(scope, receive, send)


class LazyLifespan:
    """Falcon middleware that starts the process with the application, or at the latest with the first request.

    Starlette and FastAPI do not pass the start-up event on to mounted applications, and Django has no such event.

    Args:
        lifespan: The middleware that starts and stops the process. It is started once.
    """

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan
        self._starting = asyncio.Lock()
        self._is_started = False

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Start the process, unless it is started."""
        async with self._starting:
            if not self._is_started:
                await self._lifespan.process_startup(scope, event)
                self._is_started = True

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Stop the process, if it is started."""
        if self._is_started:
            await self._lifespan.process_shutdown(scope, event)

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Start the process before the first HTTP request."""
        if not self._is_started:
            await self.process_startup(req.scope, {})

    async def process_request_ws(self, req: Request, _ws: WebSocket) -> None:
        """Start the process before the first WebSocket handshake."""
        if not self._is_started:
            await self.process_startup(req.scope, {})


def starter(lifespan: Lifespan) -> Callable[[dict[str, Any]], Awaitable[None]]:
    """Return a function that starts the process before a connection outside of Falcon. Its argument is the scope."""

    async def start(scope: dict[str, Any]) -> None:
        if isinstance(lifespan, LazyLifespan):
            await lifespan.process_startup(scope, {})

    return start
