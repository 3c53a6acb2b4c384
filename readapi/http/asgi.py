"""Types of ASGI and of Falcon's lifespan middleware."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

AsgiApplication = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
"""Takes ``scope``, ``receive`` and ``send``."""


class Lifespan(Protocol):
    """Falcon middleware that starts and stops what the process needs."""

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Before the first request."""
        ...

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """After the last."""
        ...
