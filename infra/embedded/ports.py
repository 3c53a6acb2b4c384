"""TCP ports of this machine."""

import socket


def find_free_port(host: str, port: int = 0) -> int:
    """A port to listen on: ``port``, or for 0 one that the kernel finds free. Raises OSError if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        return int(listener.getsockname()[1])
