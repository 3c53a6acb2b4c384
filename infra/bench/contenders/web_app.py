"""The server of the API around another application: the same gunicorn, the same worker, one process."""

from collections.abc import Callable
from typing import Any

from infra.web_server.gunicorn import Server

LONG_SECONDS = 600


def serve(port: int, load: Callable[[], Any]) -> None:
    """Serve what ``load`` makes until terminated."""
    options = {
        "bind": f"127.0.0.1:{port}",
        "workers": 1,
        # Who is busy with one scan for many seconds is not dead, and its clients have not left.
        "timeout": LONG_SECONDS,
        "keepalive": LONG_SECONDS,
        "graceful_timeout": 1,
        "control_socket_disable": True,
        "loglevel": "warning",
    }
    Server(options, load).run()
