"""Requests of commands to whatever answers on the port of the API: every failure is one line."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from infra.cli.api_client import open_answer
from infra.cli.errors import CommandError
from tests.tcp_ports import free_port

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """Answer one request with these bytes and close the connection. None: never answer. Yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                if answer is None:
                    connection.recv(1)
                else:
                    connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "did not answer in time"),
        (b"", "closed connection without response"),
        (b"220 mail.example ESMTP\r\n", "did not answer completely"),
        (HEAD + b"Content-Type: text/html\r\n\r\n<html>", "is not the API of TickView"),
        (HEAD + b"Content-Length: 50\r\n\r\n{}", "ended its answer too early"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\n{}", "did not answer completely"),
        (HEAD + b"\r\n{}", "is not the API of TickView"),
        (HEAD + b"\r\n[]", "is not the API of TickView"),
        (HEAD.replace(b"200 OK", b"404 Not Found") + b"\r\nno such page", "with status 404 and is not the API"),
    ],
)
def test_an_answer_that_is_not_of_the_api_is_one_line(answer: bytes | None, reason: str) -> None:
    with (
        server(answer) as url,
        pytest.raises(CommandError, match=reason) as failed,
        open_answer(url, "/", {}, timeout=0.3) as response,
    ):
        response.json("rows")
    assert url in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HEAD + b"Content-Type: text/html\r\n\r\n<html>", "does not answer with text/csv"),
        (HEAD + b"Content-Type: text/csv\r\nContent-Length: 50\r\n\r\na,b", "ended its answer too early"),
    ],
)
def test_a_download_that_is_another_or_not_complete_fails(answer: bytes, reason: str) -> None:
    with (
        server(answer) as url,
        pytest.raises(CommandError, match=reason),
        open_answer(url, "/", {}, timeout=5) as response,
    ):
        list(response.chunks("text/csv"))


def test_a_port_without_a_server_is_one_line() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(CommandError, match="cannot be reached"), open_answer(url, "/", {}, timeout=5):
        pass
