"""Answers as they leave: the head and the body behind it in one piece.

uvicorn writes them one by one, and the event loop hands each to the system at once: two calls, two packets, and a
client that is woken up twice.
"""

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class WholeAnswer:
    """The transport of one answer, which holds back a head until the body comes, if that has a known length."""

    __slots__ = ("_cycle", "_head", "_is_begun", "_transport", "is_closing")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head = b""
        self._is_begun = False
        self.is_closing = cycle.transport.is_closing

    def write(self, data: bytes) -> None:
        """Send what uvicorn writes: 100 Continue, perhaps; the head; the body."""
        if self._head:
            data, self._head = self._head + data, b""
        elif not self._is_begun and self._cycle.response_started:
            self._is_begun = True
            if self._cycle.chunked_encoding is False and self._cycle.scope["method"] != "HEAD":
                self._head = data
                return
        self._transport.write(data)

    def close(self) -> None:
        """Send what there is, and close."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()
