"""The limit of live push: the server and protocols of the API, which repeatedly write one constant frame."""

import asyncio
import sys
from contextlib import suppress
from typing import Any

from infra.web_server.uvicorn import run
from readapi.http.client_stream import STREAM, SocketStream
from readapi.push.subscribers import MAX_UNSENT_BYTES, WRITES_PER_TURN


class ConstantPush:
    """An ASGI application that starts to write when ``connections`` clients are connected."""

    def __init__(self, connections: int, frame: bytes) -> None:
        self._connections = connections
        self._frame = frame
        self._streams: list[SocketStream] = []
        self._writing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one connection."""
        if scope["path"] == "/api/health":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        stream: SocketStream = scope["extensions"][STREAM]
        stream.open()
        self._streams.append(stream)
        if len(self._streams) == self._connections:
            self._writing = asyncio.create_task(self._write_frames())
        while (await receive())["type"] not in ("websocket.disconnect", "http.disconnect"):
            pass

    async def _write_frames(self) -> None:
        """Write the frame to all clients in turn, without end."""
        while True:
            for number, stream in enumerate(self._streams):
                if stream.unsent_bytes > MAX_UNSENT_BYTES // 2:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stream.drain(), 1)
                stream.write(self._frame)
                if number % WRITES_PER_TURN == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)


def main(port: int, connections: int, frame: bytes) -> None:
    """Serve until a signal ends the process."""
    run(
        ConstantPush(connections, frame),
        port=port,
        lifespan="off",
        log_level="error",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
