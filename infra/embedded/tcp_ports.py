"""TCP ports of this machine."""

import socket


def find_free_port(host: str, port: int = 0) -> int:
    """Return a TCP port on which no process listens.

    Args:
        host: The address to listen on.
        port: The port to check; 0 for any free port.

    Raises:
        OSError: The port is in use, or the address does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        return int(listener.getsockname()[1])
