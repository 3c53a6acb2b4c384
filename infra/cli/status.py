"""``tickview status`` and ``tickview projections``: counts, progress and errors of the service."""

from dataclasses import asdict
from typing import Annotated

import typer
from psycopg import Error as DatabaseError

from infra.cli.errors import CommandError
from infra.cli.journal import record_command
from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.composition import lazy_database, lazy_standby, open_redis, open_stores
from infra.heartbeats.heartbeats import read_liveness
from infra.log.errors import ArchiveUnavailableError
from infra.log.handle import LogOptions
from infra.operations import commands
from infra.operations import status as service_status
from infra.operations.archive_status import read_archive_status
from infra.operations.server_status import (
    READ_FROM_PRIMARY,
    postgres_status,
    primary_written,
    redis_status,
    standby_status,
)
from infra.plugins import configure
from infra.postgres.standby import Standby
from infra.processes.errors import StartupError
from infra.redis.connections import RedisClient
from infra.settings import Settings
from readapi.operations.health_checks import ServiceState, judge_service
from readapi.operations.health_documents import ServiceHealth
from readapi.operations.read_model_documents import read_model_document
from readapi.ports.archive import ArchiveStatus, LogLoss
from readapi.ports.operations import ROLES, WAYS, Gap, ServerStatus

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
    "folded",
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
    """Show the health, the counts of incoming messages, and the progress of read models and archive.

    Example: tickview status --json
    """
    settings = configure()
    client = open_redis(settings)
    state, note = _read_state(client, settings)
    health = judge_service(state, has_replica=False)
    models = [read_model_document(model) for model in state.read_models]
    intake, archive = state.intake, state.archive
    assert intake is not None, "Redis answers"
    if json:
        archive_document = asdict(archive) if archive else {"error": note} if note else None
        shown = {name: health[name] for name in ("status", "servers", "roles", "verification")}
        print_json({**shown, "intake": asdict(intake), "projections": models, "archive": archive_document})
        return
    _print_health(health)
    for name, number in sorted(intake.counts.items()):
        console.print(f"{name:22} {number}")
    console.print(f"{'dead letters':22} {intake.dead_letters} (dropped: {intake.dead_letters_dropped})")
    for gap in intake.gaps:
        console.print(_describe_gap(gap), markup=False, highlight=False, soft_wrap=True)
    console.print()
    print_table(MODEL_COLUMNS, models, "no read models")
    _print_archive(archive, note)


def _read_state(client: RedisClient, settings: Settings) -> tuple[ServiceState, str | None]:
    """Return the state of the service, and the reason if the state of the archive is unknown."""
    servers = {"redis": redis_status(client, LogOptions.from_settings(settings))}
    archive: ArchiveStatus | None = None
    note: str | None = None
    if database := lazy_database(settings):
        try:
            servers["postgres"] = postgres_status(database)
            archive = read_archive_status(database, client)
        except (ArchiveUnavailableError, StartupError, DatabaseError) as error:
            servers["postgres"] = ServerStatus(up=False)
            note = " ".join(str(error).split())
        if standby := lazy_standby(settings, database):
            servers["postgres_standby"] = _read_standby(standby, has_primary=note is None)
            standby.close()
        database.close()
    state = ServiceState(
        servers,
        read_liveness(client, (*ROLES, *WAYS)),
        service_status.read_intake(client),
        service_status.read_model_statuses(client),
        archive,
    )
    return state, note


def _read_standby(standby: Standby, *, has_primary: bool) -> ServerStatus:
    try:
        return standby_status(standby, primary_written(standby.primary) if has_primary else None)
    except StartupError as error:
        return ServerStatus(up=True, warnings=(str(error), READ_FROM_PRIMARY))
    except (ArchiveUnavailableError, DatabaseError):
        return ServerStatus(up=False, warnings=(READ_FROM_PRIMARY,))


def _print_health(health: ServiceHealth) -> None:
    """Print the status of the service, and one line for each reason why a part is not healthy."""
    console.print(f"{'health':22} {health['status']}")
    single = {name: health[name] for name in ("intake", "archive", "verification")}
    for name, part in (
        *health["servers"].items(),
        *health["roles"].items(),
        *health["read_models"].items(),
        *single.items(),
    ):
        for reason in part["reasons"] if part else ():
            console.print(f"{name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    roles = ", ".join(f"{name} {role['processes']}" for name, role in health["roles"].items())
    console.print(f"{'processes':22} {roles}\n", highlight=False)


def _describe_gap(gap: Gap) -> str:
    """Describe a time in which a recorder did not hear messages."""
    heard = f"{gap.others} other recorders heard them" if gap.others else "messages may be lost"
    seconds = gap.ended_at - gap.began_at
    return f"{iso(gap.began_at)} {gap.way} was not heard for {seconds:.1f} s by {gap.recorder}, {heard}: {gap.reason}"


def _print_archive(archive: ArchiveStatus | None, note: str | None) -> None:
    if archive is None:
        console.print(f"\narchive: {note or 'none; set TICKVIEW_POSTGRES_DSN'}", markup=False, highlight=False)
        return
    console.print("\narchive")
    print_table(ARCHIVE_COLUMNS, [asdict(log) for log in archive.logs], "nothing is archived")
    for loss in archive.losses:
        console.print(describe_loss(loss), markup=False, highlight=False, soft_wrap=True)


def describe_loss(loss: LogLoss) -> str:
    """Describe the loss of a log that came back with fewer events than other processes had read."""
    text = f"{iso(loss.noticed_at)} {loss.log} came back at {loss.found}, {loss.seen - loss.found} events short of "
    text += f"{loss.seen}, the last known position; {loss.restored - loss.found} were restored from the archive"
    if loss.seen > loss.restored:
        text += f", {loss.seen - loss.restored} were not archived and are lost (PositionLost)"
    return text + (f"; rebuilt: {', '.join(loss.rebuilt)}" if loss.rebuilt else "")


def projections(
    name: Annotated[str | None, typer.Argument(help="Name of a read model, to show its segments.")] = None,
    parked: Annotated[bool, typer.Option("--parked", help="List the parked keys of the read model.")] = False,
    retry: Annotated[str | None, typer.Option(help="Fold this parked key again, or all parked keys: all.")] = None,
    json: JsonOption = False,
) -> None:
    """Show the progress of all read models, or the segments and parked keys of one read model.

    Example: tickview projections patterns --parked
    """
    if name is None and (parked or retry is not None):
        raise CommandError("--parked and --retry need the NAME of a read model, for example patterns.")
    client = open_redis(configure())
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
    rows = [
        {"build": build, **asdict(segment)}
        for build, segments in ((model.live, model.segments), (model.building, model.building_segments))
        for segment in segments
    ]
    return print_table(SEGMENT_COLUMNS, rows, "no segments")


def _retry(name: str, key: str, *, json: bool) -> None:
    """Request that the workers fold parked keys again."""
    stores = open_stores(configure())
    record_command(stores, "retry-parked", name, {"key": key})
    chosen = commands.retry_parked(stores.redis, name, None if key == "all" else key)
    if not chosen and key != "all":
        raise CommandError(
            f"{key} is not parked in {name}. `tickview projections {name} --parked` lists the parked keys."
        )
    if json:
        print_json({"retrying": chosen})
    else:
        console.print(f"{len(chosen)} parked keys will be folded again")
