"""A stream through ``send`` of ASGI, for every web server.

The hub writes messages into a queue, and the task of the connection takes them from the queue and sends them. A web
server whose client does not read lets ``send`` wait, so that the messages stay in the queue and are counted.
"""

import asyncio
from collections import deque

from readapi.http.client_stream import END_SECONDS

INTERNAL_ERROR = 1011
"""WebSocket close code: the server failed (RFC 6455, section 7.4.1)."""

FEW_BYTES = 65_536
"""Number of unsent bytes up to which ``drain`` does not wait."""


class QueuedStream:
    """A queue of messages for one client. Implements ``Stream``. One task sends the messages: the sender."""

    close_code = INTERNAL_ERROR
    """Close code for a WebSocket whose messages are sent."""
    close_reason = "the service failed; its log says why"
    """Reason for ``close_code``."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._taken_bytes = 0
        self._unsent_bytes = 0
        self._is_ended = False
        self._closed = asyncio.Event()
        self._has_changed = asyncio.Event()
        self._has_few_bytes = asyncio.Event()
        self._has_few_bytes.set()
        self._sender: asyncio.Task[object] | None = None
        self._is_sending = False

    @property
    def unsent_bytes(self) -> int:
        """The number of written bytes that the web server has not accepted yet."""
        return self._unsent_bytes

    @property
    def is_ended(self) -> bool:
        """Whether the connection is closed or about to close."""
        return self._is_ended

    async def take(self) -> bytes | None:
        """Wait for the next message. The sender calls this method, and sends the message before the next call.

        Returns:
            The message, or None when the stream has ended and all messages are sent.
        """
        self._sender = asyncio.current_task()
        self._subtract(self._taken_bytes)
        self._taken_bytes = 0
        self._is_sending = False
        while not self._waiting and not self._is_ended:
            self._has_changed.clear()
            await self._has_changed.wait()
        self._is_sending = True
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        self._taken_bytes = len(message)
        return message

    def write(self, data: bytes) -> None:
        """Put a message into the queue."""
        if self._is_ended:
            return
        self._waiting.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > FEW_BYTES:
            self._has_few_bytes.clear()
        self._has_changed.set()

    async def drain(self) -> None:
        """Wait until few bytes are unsent, or until the end of the stream."""
        await self._has_few_bytes.wait()

    def finish(self, code: int, reason: str) -> None:
        """End the stream after the messages in the queue."""
        if self._is_ended:
            return
        self.close_code, self.close_reason = code, reason
        self._end()
        asyncio.get_running_loop().call_later(END_SECONDS, self.abort)

    def abort(self) -> None:
        """End the stream at once. Cancel the sender if the web server does not accept the message that it sends."""
        self.close()
        if self._is_sending and self._sender is not None:
            self._sender.cancel()

    def close(self) -> None:
        """End the stream and free its messages. Its sender calls this method when the connection has ended."""
        self._waiting.clear()
        self._unsent_bytes = self._taken_bytes = 0
        self._end()
        self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until the stream is closed or aborted."""
        await self._closed.wait()

    def _end(self) -> None:
        self._is_ended = True
        self._has_changed.set()
        self._has_few_bytes.set()

    def _subtract(self, sent_bytes: int) -> None:
        self._unsent_bytes -= sent_bytes
        if self._unsent_bytes <= FEW_BYTES:
            self._has_few_bytes.set()
