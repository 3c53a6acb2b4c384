"""Requests of Socket.IO at the process that has their session.

The web server gives each connection to any of its processes, but a session of Socket.IO has several connections, and
lives in one process. A process therefore passes the ASGI messages of a connection on to the process that its session
names, over a Unix socket in a folder that only this user can open.
"""

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec

from readapi.http.asgi import AsgiApplication

PASSED_ON = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "query_string", "root_path", "headers"),
    *("client", "server", "subprotocols"),
)
"""Members of the ASGI scope that the other process gets."""

LENGTH_BYTES = 4


class SessionRelay:
    """An ASGI application that serves each session in the process that the id of the session names.

    Args:
        application: Serves the sessions of this process. The ids of its sessions begin with ``session_prefix()``.
        folder: The folder of the Unix sockets of all processes.
    """

    def __init__(self, application: AsgiApplication, folder: Path) -> None:
        self._application = application
        self._folder = folder
        self._starting = asyncio.Lock()
        self._server: asyncio.Server | None = None

    def session_prefix(self) -> str:
        """Return the start of the ids of the sessions of this process."""
        return f"{os.getpid()}."

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve a connection here, or pass it on."""
        process = _process_of(scope)
        if process is not None and process != str(os.getpid()):
            with suppress(FileNotFoundError, ConnectionRefusedError):
                await self._pass_on(process, scope, receive, send)
                return
        await self._start()
        await self._application(scope, receive, send)

    async def _start(self) -> None:
        """Accept connections from the other processes, before the first session."""
        async with self._starting:
            if self._server is None:
                path = self._path(str(os.getpid()))
                path.unlink(missing_ok=True)
                self._server = await asyncio.start_unix_server(self._serve, path)

    def _path(self, process: str) -> Path:
        return self._folder / f"socketio-{process}"

    async def _pass_on(self, process: str, scope: dict[str, Any], receive: Any, send: Any) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path(process))
        try:
            await _write(writer, {name: scope[name] for name in PASSED_ON if name in scope})
            sending = asyncio.create_task(_write_all(writer, receive))
            try:
                while (message := await _read(reader)) is not None:
                    await send(message)
            finally:
                sending.cancel()
        finally:
            writer.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a connection that another process has passed on."""

        async def receive() -> dict[str, Any]:
            return await _read(reader) or {"type": disconnected}

        async def send(message: dict[str, Any]) -> None:
            with suppress(ConnectionError):
                await _write(writer, message)

        try:
            scope = await _read(reader)
            if scope is not None:
                disconnected = f"{scope['type']}.disconnect"
                await self._application(scope, receive, send)
        finally:
            writer.close()


def _process_of(scope: dict[str, Any]) -> str | None:
    """Return the process that has the session of a request. None for a new session."""
    [session] = parse_qs(scope["query_string"].decode("latin-1")).get("sid", [""])[:1]
    process, separator, _ = session.partition(".")
    return process if separator and process.isdecimal() else None


async def _write_all(writer: StreamWriter, receive: Any) -> None:
    while True:
        message = await receive()
        await _write(writer, message)
        if message["type"].endswith(".disconnect"):
            return


async def _write(writer: StreamWriter, message: Any) -> None:
    encoded = msgspec.msgpack.encode(message)
    writer.write(len(encoded).to_bytes(LENGTH_BYTES) + encoded)
    await writer.drain()


async def _read(reader: StreamReader) -> dict[str, Any] | None:
    """Read a message. None at the end of the connection."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
        message: dict[str, Any] = msgspec.msgpack.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return message
