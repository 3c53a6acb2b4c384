"""The limit of live push: the same server and protocols, and one constant frame that is written again and again."""

import asyncio
import sys
from contextlib import suppress
from typing import Any

from infra.web_server.uvicorn import run
from readapi.http.client_stream import STREAM, Stream
from readapi.push.subscribers import MAX_UNSENT_BYTES, WRITES_PER_TURN


class ConstantPush:
    """An ASGI application that begins when ``connections`` clients are there."""

    def __init__(self, connections: int, frame: bytes) -> None:
        self._connections = connections
        self._frame = frame
        self._streams: list[Stream] = []
        self._telling: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        if scope["path"] == "/api/health":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        stream: Stream = scope["extensions"][STREAM]
        stream.open()
        self._streams.append(stream)
        if len(self._streams) == self._connections:
            self._telling = asyncio.create_task(self._tell())
        while (await receive())["type"] not in ("websocket.disconnect", "http.disconnect"):
            pass

    async def _tell(self) -> None:
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
    """Serve until terminated."""
    run(
        ConstantPush(connections, frame),
        port=port,
        lifespan="off",
        log_level="error",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
