"""The listening sockets of several processes: one address, which no other server can take."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from infra.web_server.listeners import open_listeners


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    host: str = request.param
    if host == "::1":
        try:
            socket.create_server((host, 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("the machine has no IPv6")
    return host


@pytest.fixture
def listeners(host: str) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(listener) for listener in open_listeners(host, 0, 4)]


def test_connections_are_spread_over_the_sockets(listeners: list[socket.socket]) -> None:
    address = listeners[0].getsockname()
    assert {listener.getsockname() for listener in listeners} == {address}
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(address[:2], timeout=10))
        counts = []
        for listener in listeners:
            listener.setblocking(False)
            accepted = 0
            while True:
                try:
                    stack.enter_context(listener.accept()[0])
                except BlockingIOError:
                    break
                accepted += 1
            counts.append(accepted)
    assert sum(counts) == 200
    assert min(counts) >= 15, counts


@pytest.mark.parametrize("number", [1, 4])
def test_the_address_of_another_server_is_refused(host: str, listeners: list[socket.socket], number: int) -> None:
    port = listeners[0].getsockname()[1]
    with pytest.raises(OSError, match="in use") as caught:
        open_listeners(host, port, number)
    assert caught.value.errno == errno.EADDRINUSE
    for listener in listeners:
        listener.close()
    for listener in open_listeners(host, port, number):
        listener.close()


def test_a_server_of_one_process_shares_its_address_with_no_other(host: str) -> None:
    [listener] = open_listeners(host, 0, 1)
    with closing(listener), pytest.raises(OSError, match="in use"):
        open_listeners(host, listener.getsockname()[1], 4)
