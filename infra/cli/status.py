"""``tickview status`` and ``tickview projections``: how the service stands."""

from dataclasses import asdict
from typing import Annotated

import typer

from infra import operating, standing
from infra.cli.output import JsonOption, console, print_json, print_table
from infra.composition import open_redis
from infra.errors import StartupError
from infra.settings import Settings
from readapi.projections import shown

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
    """What came in, and how far every read model is.

    Example: tickview status --json
    """
    client = open_redis(Settings())
    intake = standing.intake(client)
    models = [shown(model) for model in standing.read_models(client)]
    if json:
        print_json({"intake": asdict(intake), "projections": models})
        return
    for name, number in sorted(intake.counts.items()):
        console.print(f"{name:22} {number}")
    console.print(f"{'dead letters':22} {intake.dead_letters} (dropped: {intake.dead_letters_dropped})\n")
    print_table(MODEL_COLUMNS, models, "no read models")


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
        models = [shown(model) for model in standing.read_models(client)]
        return print_json({"projections": models}) if json else print_table(MODEL_COLUMNS, models, "no read models")
    operating.check_name(name)
    if retry is not None:
        return _retry(name, retry, json=json)
    if parked:
        keys = standing.parked_keys(client, name)
        return print_json({"parked": keys}) if json else print_table(PARKED_COLUMNS, keys, "nothing is parked")
    [model] = [model for model in standing.read_models(client) if model.name == name]
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
    chosen = operating.retry_parked(open_redis(Settings()), name, None if wanted == "all" else wanted)
    if not chosen and wanted != "all":
        raise StartupError(f"{wanted} is not parked in {name}: see `tickview projections {name} --parked`")
    if json:
        print_json({"retrying": chosen})
    else:
        console.print(f"{len(chosen)} parked keys will be tried again")
