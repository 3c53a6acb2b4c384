"""``tickview demo``: the role that runs the demo producer."""

from typing import Annotated

import typer

from infra.composition import redis_url
from infra.demo import MAX_SPEED, MIN_SPEED
from infra.plugins import configure
from infra.processes.errors import StartupError
from infra.processes.logs import configure_logs

DEFAULT_SPEED = 0.2
"""Trading days per second and symbol."""


def demo(
    speed: Annotated[
        float, typer.Option(min=MIN_SPEED, max=MAX_SPEED, help="Trading days per second and symbol.")
    ] = DEFAULT_SPEED,
) -> None:
    """Replay real market bars until Ctrl-C, and announce their patterns and backtests.

    Example: tickview demo --speed 2
    """
    try:
        from infra.demo.producer import run
    except ModuleNotFoundError as error:
        raise StartupError(
            f"The demo needs the package {error.name}. Install it with: pip install 'tickview[demo]'"
        ) from error
    settings = configure()
    configure_logs(settings.log_level, "demo")
    run(redis_url(settings), speed)
