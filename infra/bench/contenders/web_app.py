"""The web server of the API for another application: gunicorn with the same worker, in one process."""

from typing import Any

from infra.processes.lifeline import stop_with_supervisor
from infra.web_server.gunicorn import Server

TIMEOUT_SECONDS = 600
"""Seconds after which gunicorn ends a busy worker and closes an idle connection."""


def serve_application(port: int, application: Any) -> None:
    """Serve an application until a signal ends the process."""
    stop_with_supervisor()
    options = {
        "bind": f"127.0.0.1:{port}",
        "workers": 1,
        # A slow contender may compute one scan for many seconds.
        "timeout": TIMEOUT_SECONDS,
        "keepalive": TIMEOUT_SECONDS,
        "graceful_timeout": 1,
        "control_socket_disable": True,
        "loglevel": "warning",
    }
    Server(options, application).run()
