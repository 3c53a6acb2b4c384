"""The relay of sessions between processes, here with two relays under different process ids."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from infra.serving import session_relay
from infra.serving.session_relay import SessionRelay


class Echo:
    """An ASGI application that answers with its name, the path and the body of the request."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        message = await receive()
        assert [tuple(header) for header in scope["headers"]] == [(b"host", b"tests")]
        body = b"%b %b %b" % (self._name.encode(), scope["path"].encode(), message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"name", self._name.encode())]})
        await send({"type": "http.response.body", "body": body})


async def request(relay: SessionRelay, session: str) -> bytes:
    """Send a request for a session and return the body of the response."""
    scope = {"type": "http", "path": "/socket.io/", "headers": [(b"host", b"tests")], "unknown": object()}
    query = f"EIO=4&sid={session}" if session else "EIO=4"
    sent: list[dict[str, Any]] = []
    requests = [{"type": "http.request", "body": b"\xff", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        await relay({**scope, "query_string": query.encode()}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    body: bytes = sent[1]["body"]
    return body


def test_a_request_reaches_the_process_of_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_as(process: int) -> None:
        monkeypatch.setattr(session_relay.os, "getpid", lambda: process)

    async def run() -> None:
        first, second = SessionRelay(Echo("first"), tmp_path), SessionRelay(Echo("second"), tmp_path)
        run_as(1)
        assert first.session_prefix() == "1."
        assert await request(first, "") == b"first /socket.io/ \xff"
        run_as(2)
        assert await request(second, "1.abc") == b"first /socket.io/ \xff"
        assert await request(second, "2.abc") == b"second /socket.io/ \xff"
        assert await request(second, "3.abc") == b"second /socket.io/ \xff", "process 3 has ended"
        assert await request(second, "../1.abc") == b"second /socket.io/ \xff"
        for relay in (first, second):
            assert relay._server is not None
            relay._server.close()

    asyncio.run(run())
