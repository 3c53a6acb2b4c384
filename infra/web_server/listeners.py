"""The listening sockets of a server with several processes."""

import socket
import sys

BACKLOG = 2_048
"""Number of connections that may wait on a socket until its process accepts them."""


def open_listeners(host: str, port: int, number: int) -> list[socket.socket]:
    """Open the sockets on which the processes of a server listen, one for each process.

    Linux spreads new connections evenly over all sockets of an address (``SO_REUSEPORT``, see socket(7)). On one common
    socket, the first process that wakes up accepts nearly all of them. Other systems do not spread them and get one
    socket.

    Args:
        host: The address.
        port: The port, or 0 for any free port.
        number: The number of processes, at least 1.

    Raises:
        OSError: The address cannot be used, or another server listens on it.
    """
    # The first socket does not share the address while it is bound: it fails if another server listens there.
    first = _bind(host, port)
    sockets = [first]
    try:
        spreads = sys.platform == "linux" and number > 1
        if spreads:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.listen(BACKLOG)
        for _ in range(number - 1 if spreads else 0):
            sockets.append(_bind(host, first.getsockname()[1], shared=True))
            sockets[-1].listen(BACKLOG)
    except OSError:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
