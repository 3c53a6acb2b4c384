"""Names of processes, unique among all machines and over time."""

import os
import socket


def process_name() -> str:
    """Return a name for this process that no other process has or had: host name, process id and a random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
