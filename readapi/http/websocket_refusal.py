"""The refusal of a WebSocket under any ASGI server, so that its client learns the problem.

Servers with the extension ``websocket.http.response`` answer the handshake with the problem
(https://asgi.readthedocs.io/en/latest/extensions.html#websocket-denial-response). Under other servers, a refused
handshake would have the status 403 and no reason. There, the WebSocket is accepted, gets the problem as its only
message, and is closed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

SUBPROTOCOL = "bearer"
"""WebSocket subprotocol for tokens.

Browsers cannot set a header for a WebSocket. They offer this subprotocol followed by the token.
"""

CODE_OFFSET = 3_000
"""Difference between the code that closes a WebSocket and the status of the problem, as in Falcon."""

MAX_REASON_BYTES = 123
"""Highest number of bytes of the reason that closes a WebSocket."""

_EXTENSION = "websocket.http.response"


async def refuse_handshake(
    scope: Mapping[str, Any], send: Any, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, detail: str
) -> None:
    """Refuse a WebSocket that is not accepted yet.

    Args:
        scope: The ASGI scope of the WebSocket.
        send: The function ``send`` of ASGI.
        status: The status of the problem.
        headers: The headers of the response.
        body: The JSON document of the problem.
        detail: The fault, and the action that corrects it.
    """
    if _EXTENSION in (scope.get("extensions") or {}):
        await send({"type": f"{_EXTENSION}.start", "status": status, "headers": list(headers)})
        await send({"type": f"{_EXTENSION}.body", "body": body})
        return
    # A browser that offers subprotocols closes the connection if the server selects none.
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in (scope.get("subprotocols") or ()) else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    await send({"type": "websocket.send", "text": body.decode()})
    await send({"type": "websocket.close", "code": CODE_OFFSET + status, "reason": close_reason(detail)})


def close_reason(detail: str) -> str:
    """Return the beginning of a text that fits into the reason of a close frame."""
    return detail.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
