"""Types of ASGI and of Falcon's lifespan middleware."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

AsgiApplication = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
"""An ASGI application. Its arguments are ``scope``, ``receive`` and ``send``."""


class Lifespan(Protocol):
    """Falcon middleware that starts and stops the background work of a process."""

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Start the background work, before the first request."""
        ...

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Stop the background work, after the last request."""
        ...
