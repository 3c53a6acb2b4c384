"""``tickview serve``: the role that answers queries over HTTP."""

from typing import Any

import typer

from infra.plugins import configure
from infra.serving.server import run_server


def serve(
    host: str = typer.Option(None, help="Address to listen on. Default: TICKVIEW_HOST, else 127.0.0.1."),
    port: int = typer.Option(None, help="Port to listen on. Default: TICKVIEW_PORT, else 8000."),
) -> None:
    """Serve the query API over HTTP.

    Example: TICKVIEW_REDIS_URL=redis://localhost tickview serve --port 8000
    """
    changes: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    run_server(configure(**changes))
