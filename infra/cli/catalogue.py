"""``tickview catalogue``: the symbols and universes, taken over from where the platform keeps them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from infra.catalogue.parsing import RefusedRow
from infra.catalogue.synchronization import SyncResult, read_source, synchronize
from infra.cli.output import JsonOption, console, print_json
from infra.cli.roles import stop_on_signals
from infra.composition import open_dead_letters, open_market_logs, open_recorder, open_stores
from infra.processes.errors import StartupError
from infra.processes.logs import configure_logs
from infra.settings import Settings
from readapi.ports.read_models import format_positions

app = typer.Typer(help="Symbols and universes: take over what has changed.", no_args_is_help=True)

logger = structlog.get_logger()

ROWS_REFUSED = 3
"""Exit code: all rows but some were taken over."""

REFUSALS_SHOWN = 20

DEFAULT_EVERY = 300.0

File = Annotated[Path | None, typer.Option(help="CSV or JSON file, by its ending.")]


@app.callback()
def catalogue() -> None:
    """Symbols and universes: take over what has changed."""


@app.command()
def sync(
    symbols: File = None,
    universes: File = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, again and again, until Ctrl-C.")] = False,
    every: Annotated[float | None, typer.Option(min=1, help="Seconds between two rounds of --watch [300].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; record nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delist even more than half of the symbols.")] = False,
    json: JsonOption = False,
) -> None:
    """Record what has changed in the catalogue: from files, else from the platform's PostgreSQL, which is only read.

    Exit code 3: rows were refused, all others were taken over.

    Example: tickview catalogue sync --symbols symbols.csv --universes universes.json --dry-run
    """
    if every is not None and not watch:
        raise typer.BadParameter("is for --watch", param_hint="--every")
    if watch and json:
        raise typer.BadParameter("is for one round; --watch logs what it does", param_hint="--json")
    settings = Settings()
    stores = open_stores(settings)
    logs = open_market_logs(stores)
    recorder = open_recorder(stores, logs, open_dead_letters(stores))

    def once(pause: Callable[[float], object]) -> SyncResult:
        source = read_source(settings, symbols, universes)
        return synchronize(stores.redis, settings, logs, recorder, source, dry_run=dry_run, force=force, pause=pause)

    if watch:
        _watch(settings, once, every or DEFAULT_EVERY)
    else:
        _show(once(time.sleep), dry_run=dry_run, json=json)


def _watch(settings: Settings, once: Callable[[Callable[[float], object]], SyncResult], seconds: float) -> None:
    """A round that fails is told, and the next one may do better."""
    configure_logs(settings.log_level, "catalogue")
    stop = stop_on_signals()

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise typer.Exit

    while True:
        try:
            outcome = once(pause)
            logger.info("catalogue synchronized", symbols=outcome.symbols, universes=outcome.universes)
            for refused in outcome.refused[:REFUSALS_SHOWN]:
                logger.warning("row refused", where=refused.where, reason=refused.reason)
        except (StartupError, RedisError, PersistenceError) as error:
            logger.warning("catalogue not synchronized", why=str(error))
        pause(seconds)


def _show(outcome: SyncResult, *, dry_run: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "symbols": outcome.symbols,
                "universes": outcome.universes,
                "refused": [_shown(one) for one in outcome.refused],
                "position": format_positions(outcome.positions) or None,
                "dry_run": dry_run,
            }
        )
    else:
        _print(outcome, dry_run=dry_run)
    if outcome.refused:
        raise typer.Exit(ROWS_REFUSED)


def _print(outcome: SyncResult, *, dry_run: bool) -> None:
    for name, counts in (("symbols", outcome.symbols), ("universes", outcome.universes)):
        told = "no source" if counts is None else ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        console.print(f"{name:<10} {told}", highlight=False)
    for refused in outcome.refused[:REFUSALS_SHOWN]:
        console.print(f"refused    {refused.where}: {refused.reason}", markup=False, highlight=False)
    if len(outcome.refused) > REFUSALS_SHOWN:
        console.print(
            f"refused    and {len(outcome.refused) - REFUSALS_SHOWN:,} more: --json has them all", highlight=False
        )
    if dry_run:
        console.print("nothing was recorded (--dry-run)")


def _shown(refused: RefusedRow) -> dict[str, Any]:
    return {"where": refused.where, "reason": refused.reason}
