"""``tickview catalogue``: synchronize symbols and universes with their source."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from domain.errors import TickViewError
from infra.catalogue.parsing import RefusedRow
from infra.catalogue.synchronization import Synchronizer, SyncReport, read_source
from infra.cli.errors import NEGATIVE_OUTCOME
from infra.cli.output import JsonOption, console, print_json
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder, open_stores
from infra.heartbeats.heartbeats import Heartbeats
from infra.heartbeats.progress import Progress
from infra.plugins import configure
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.stop_signals import stop_on_signals
from readapi.ports.read_models import format_positions

app = typer.Typer(help="Synchronize the catalogue of symbols and universes.", no_args_is_help=True)

logger = structlog.get_logger()

REFUSALS_PRINTED = 20
"""Highest number of refused rows in the output."""

DEFAULT_INTERVAL = 300.0
"""Seconds between two rounds of ``--watch``."""

File = Annotated[Path | None, typer.Option(help="File that ends in .csv or .json.")]


@app.callback()
def catalogue() -> None:
    """Synchronize the catalogue of symbols and universes."""


@app.command()
def sync(
    symbols: File = None,
    universes: File = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[
        float | None, typer.Option(min=1, help="Seconds between two rounds of --watch. Default: 300.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the changes and record nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delist symbols even if they are more than half of all.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Record the changes of the catalogue, from files, or from the platform's PostgreSQL database by default.

    TickView only reads the platform's database. Exit code 3: some rows were refused, all other rows were recorded.

    Example: tickview catalogue sync --symbols symbols.csv --universes universes.json --dry-run
    """
    if every is not None and not watch:
        raise typer.BadParameter("needs --watch", param_hint="--every")
    if watch and json:
        raise typer.BadParameter("cannot be combined with --watch, which writes log lines", param_hint="--json")
    settings = configure()
    stores = open_stores(settings)
    logs = open_market_logs(stores)
    recorder = open_recorder(stores, logs, open_dead_letters(stores))

    def synchronize_once(pause: Callable[[float], object]) -> SyncReport:
        synchronizer = Synchronizer(stores.redis, settings, logs, recorder, pause)
        return synchronizer.synchronize(read_source(settings, symbols, universes), dry_run=dry_run, force=force)

    if watch:
        _watch(stores, synchronize_once, every or DEFAULT_INTERVAL)
    else:
        _print_result(synchronize_once(time.sleep), dry_run=dry_run, json=json)


def _watch(stores: Stores, synchronize_once: Callable[[Callable[[float], object]], SyncReport], seconds: float) -> None:
    """Synchronize repeatedly. Log a failed round and continue with the next one."""
    configure_logs(stores.settings.log_level, "catalogue")
    stop = stop_on_signals()
    progress = Progress()
    heartbeats = Heartbeats(stores.redis, process_name(), {"catalogue": lambda: [progress]})

    def pause(seconds: float) -> None:
        progress.wait(stop, seconds, heartbeats.beat)
        if stop.is_set():
            heartbeats.withdraw("catalogue")
            raise typer.Exit

    while True:
        try:
            result = synchronize_once(pause)
            progress.made()
            logger.info("catalogue synchronized", symbols=result.symbols, universes=result.universes)
            for refused in result.refused[:REFUSALS_PRINTED]:
                logger.warning("row refused", where=refused.where, reason=refused.reason)
        except (TickViewError, RedisError, PersistenceError) as error:
            logger.warning("catalogue not synchronized", error=str(error))
            progress.failed(error)
        pause(seconds)


def _print_result(result: SyncReport, *, dry_run: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "symbols": result.symbols,
                "universes": result.universes,
                "refused": [_refusal(row) for row in result.refused],
                "position": format_positions(result.positions) or None,
                "dry_run": dry_run,
            }
        )
    else:
        _print_text(result, dry_run=dry_run)
    if result.refused:
        raise typer.Exit(NEGATIVE_OUTCOME)


def _print_text(result: SyncReport, *, dry_run: bool) -> None:
    for name, counts in (("symbols", result.symbols), ("universes", result.universes)):
        summary = "no source" if counts is None else ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        console.print(f"{name:<10} {summary}", highlight=False)
    for refused in result.refused[:REFUSALS_PRINTED]:
        console.print(f"refused    {refused.where}: {refused.reason}", markup=False, highlight=False)
    if len(result.refused) > REFUSALS_PRINTED:
        console.print(
            f"refused    and {len(result.refused) - REFUSALS_PRINTED:,} more; --json prints all of them",
            highlight=False,
        )
    if dry_run:
        console.print("nothing was recorded, because of --dry-run")


def _refusal(refused: RefusedRow) -> dict[str, Any]:
    return {"where": refused.where, "reason": refused.reason}
