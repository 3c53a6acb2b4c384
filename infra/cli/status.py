"""``tickview status`` and ``tickview projections``: how the service stands."""

from dataclasses import asdict
from typing import Annotated

import typer
from redis import Redis

from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.composition import lazy_database, open_redis
from infra.log.errors import ArchiveUnavailableError
from infra.operations import commands
from infra.operations import status as service_status
from infra.operations.archive_status import read_archive_status
from infra.processes.errors import StartupError
from infra.settings import Settings
from readapi.operations.projections import read_model_document
from readapi.ports.archive import ArchiveStatus, LogLoss

ARCHIVE_COLUMNS = (
    "log",
    "position",
    "head",
    "lag_events",
    "lag_seconds",
    "first",
    "owner",
    "error",
)
MODEL_COLUMNS = (
    "name",
    "version",
    "live",
    "building",
    "percent",
    "seconds_left",
    "lag_events",
    "lag_seconds",
    "events_per_second",
    "parked_keys",
)
PARKED_COLUMNS = ("key", "log", "position", "events", "error")
SEGMENT_COLUMNS = (
    "build",
    "log",
    "checkpoint",
    "head",
    "lag_events",
    "lag_seconds",
    "events_per_second",
    "parked_keys",
    "owner",
)


def status(json: JsonOption = False) -> None:
    """What came in, how far every read model and the archive are, and what the logs have lost.

    Example: tickview status --json
    """
    settings = Settings()
    client = open_redis(settings)
    intake = service_status.read_intake(client)
    models = [read_model_document(model) for model in service_status.read_model_statuses(client)]
    archive, note = _archive(client, settings)
    if json:
        told = asdict(archive) if archive else {"error": note} if note else None
        print_json({"intake": asdict(intake), "projections": models, "archive": told})
        return
    for name, number in sorted(intake.counts.items()):
        console.print(f"{name:22} {number}")
    console.print(f"{'dead letters':22} {intake.dead_letters} (dropped: {intake.dead_letters_dropped})\n")
    print_table(MODEL_COLUMNS, models, "no read models")
    _print_archive(archive, note)


def _archive(client: Redis, settings: Settings) -> tuple[ArchiveStatus | None, str | None]:
    """How the archive stands, or why that is not known; neither where there is none."""
    database = lazy_database(settings)
    if database is None:
        return None, None
    try:
        return read_archive_status(database, client), None
    except (ArchiveUnavailableError, StartupError) as error:
        return None, " ".join(str(error).split())
    finally:
        database.close()


def _print_archive(archive: ArchiveStatus | None, note: str | None) -> None:
    if archive is None:
        console.print(f"\narchive: {note or 'none; set TICKVIEW_POSTGRES_DSN'}", markup=False, highlight=False)
        return
    console.print("\narchive")
    print_table(ARCHIVE_COLUMNS, [asdict(log) for log in archive.logs], "nothing is archived")
    for loss in archive.losses:
        console.print(what_was_lost(loss), markup=False, highlight=False, soft_wrap=True)


def what_was_lost(loss: LogLoss) -> str:
    """What happened when a log came back with less than others had seen, in a sentence or two."""
    told = f"{iso(loss.noticed_at)} {loss.log} came back at {loss.found}, {loss.seen - loss.found} events short of "
    told += f"{loss.seen}, which had been seen; the archive put back {loss.restored - loss.found}"
    if loss.seen > loss.restored:
        told += f", and {loss.seen - loss.restored} that nobody had kept are lost for good (PositionLost)"
    return told + (f"; built anew: {', '.join(loss.rebuilt)}" if loss.rebuilt else "")


def projections(
    name: Annotated[str | None, typer.Argument(help="One read model, with its segments.")] = None,
    parked: Annotated[bool, typer.Option("--parked", help="List its parked keys.")] = False,
    retry: Annotated[str | None, typer.Option(help="Try this parked key again, or 'all'.")] = None,
    json: JsonOption = False,
) -> None:
    """How far the read models are; the segments and the parked keys of one.

    Example: tickview projections patterns --parked
    """
    client = open_redis(Settings())
    if name is None:
        models = [read_model_document(model) for model in service_status.read_model_statuses(client)]
        return print_json({"projections": models}) if json else print_table(MODEL_COLUMNS, models, "no read models")
    commands.check_read_model_name(name)
    if retry is not None:
        return _retry(name, retry, json=json)
    if parked:
        keys = service_status.read_parked_keys(client, name)
        return print_json({"parked": keys}) if json else print_table(PARKED_COLUMNS, keys, "nothing is parked")
    [model] = [model for model in service_status.read_model_statuses(client) if model.name == name]
    if json:
        return print_json(asdict(model))
    segments = [
        {"build": build, **asdict(segment)}
        for build, found in ((model.live, model.segments), (model.building, model.building_segments))
        for segment in found
    ]
    return print_table(SEGMENT_COLUMNS, segments, "no segments")


def _retry(name: str, wanted: str, *, json: bool) -> None:
    """Ask the workers that have the segments to try parked keys again."""
    chosen = commands.retry_parked(open_redis(Settings()), name, None if wanted == "all" else wanted)
    if not chosen and wanted != "all":
        raise StartupError(f"{wanted} is not parked in {name}: see `tickview projections {name} --parked`")
    if json:
        print_json({"retrying": chosen})
    else:
        console.print(f"{len(chosen)} parked keys will be tried again")
