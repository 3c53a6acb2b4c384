"""``tickview demo``: the demo producer, as a process of its own."""

from typing import Annotated

import typer

from infra.composition import redis_url
from infra.processes.errors import StartupError
from infra.processes.logs import configure_logs
from infra.settings import Settings

DEFAULT_SPEED = 0.2


def demo(
    speed: Annotated[
        float, typer.Option(min=0.01, max=100, help="Trading days a second, for each symbol.")
    ] = DEFAULT_SPEED,
) -> None:
    """Replay real market bars: announce the patterns on them and their backtests, until Ctrl-C.

    Example: tickview demo --speed 2
    """
    try:
        from infra.demo.producer import run
    except ModuleNotFoundError as error:
        raise StartupError(
            f"the demo needs {error.name}, which is not installed: pip install 'tickview[demo]'"
        ) from error
    settings = Settings()
    configure_logs(settings.log_level, "demo")
    run(redis_url(settings), speed)
