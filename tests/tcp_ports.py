"""TCP ports for the servers of the tests. Two test processes never get the same port, and a port is given only once."""

import atexit
import random
import socket
from collections.abc import Iterator
from itertools import chain

PORTS = range(10_000, 32_768)
"""The ports below those that Linux gives to clients and to servers without a port (``ip_local_port_range``)."""

PORTS_PER_BLOCK = 64


def free_port() -> int:
    """Return a TCP port on which no process listens, and which no other test gets.

    Raises:
        RuntimeError: All ports are in use.
    """
    for port in _unused_ports:
        if _is_free(port):
            return port
    raise RuntimeError(f"all ports from {PORTS.start} to {PORTS.stop - 1} are in use")


def _claim_blocks() -> Iterator[range]:
    """Claim blocks of ports for this process, in random order.

    The claim of a block is its first UDP port. The operating system releases it, however the process ends.
    """
    starts = PORTS[::PORTS_PER_BLOCK]
    # The tests may seed the common generator, and then all their processes would begin with the same block.
    for start in random.SystemRandom().sample(starts, len(starts)):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", start))
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)
        yield range(start, min(start + PORTS_PER_BLOCK, PORTS.stop))


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


_unused_ports = chain.from_iterable(_claim_blocks())
