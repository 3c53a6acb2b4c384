"""``tickview replay`` and ``tickview rollback``: rebuild a read model beside the live build, and switch back."""

import time
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from infra.cli.errors import NEGATIVE_OUTCOME, CommandError
from infra.cli.journal import record_command
from infra.cli.output import JsonOption, console, print_json, print_table
from infra.cli.own_worker import ensure_worker
from infra.composition import open_stores
from infra.operations import commands
from infra.operations.build_comparison import first_differences
from infra.operations.foldability import check_build
from infra.operations.status import read_model_statuses
from infra.plugins import configure
from infra.projecting import build_lifecycle
from infra.read_models.checkpoints import logs_of
from infra.read_models.comparison import BuildPair, Difference
from infra.read_models.versions import read_versions
from infra.redis.connections import RedisClient
from projections.fingerprint import ProjectionCode
from projections.registry import READ_MODELS
from projections.versions import Build
from readapi.ports.operations import ReadModelStatus

POLL_SECONDS = 0.2
"""Seconds between two reads of the progress of a build."""

Name = Annotated[str, typer.Argument(help="Name of the read model, as `tickview projections` lists it.")]


def replay(
    name: Name,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare all rows, and switch only if none differs.")
    ] = False,
    expect_changes: Annotated[
        bool, typer.Option("--expect-changes", help="Compare all rows, and switch even if some differ.")
    ] = False,
    throttle: Annotated[
        int, typer.Option(min=0, help="Highest number of events per second and segment. 0: no limit.")
    ] = 0,
    no_switch: Annotated[bool, typer.Option("--no-switch", help="Build, but keep the live build.")] = False,
    json: JsonOption = False,
) -> None:
    """Rebuild a read model from the whole history beside the live build, then switch to the new build.

    A replay that was interrupted continues where it stopped. If a replay is running, this command joins it.
    The command is refused if running workers do not have the code of this command.

    Exit code 3: --verify found rows that differ, and the live build stays live.

    Example: tickview replay patterns --verify
    """
    settings = configure()
    commands.check_read_model_name(name)
    code = ProjectionCode.of(READ_MODELS[name])
    stores = open_stores(settings)
    client = stores.redis
    comparing = verify or expect_changes
    with ensure_worker(stores, code):
        record_command(stores, "replay", name, {"held": comparing or no_switch, "throttle": throttle})
        build = commands.replay(client, code, held=comparing or no_switch, throttle=throttle).building
        assert build is not None
        _show_progress(client, name, build, quiet=json)
        differences, count = _compare(client, name, build, quiet=json) if comparing else ([], 0)
        if comparing and not no_switch and (expect_changes or not count):
            record_command(stores, "switch", name, {"build": str(build)})
            _switch(client, name, build)
    live = read_versions(client, [name])[name].live == build
    if json:
        print_json(
            {"name": name, "build": str(build), "live": live, "differences": count, "rows": _documents(differences)}
        )
    else:
        _print_result(name, build, differences, count, live=live, compared=comparing)
    if count and not expect_changes:
        raise typer.Exit(NEGATIVE_OUTCOME)


def rollback(name: Name, json: JsonOption = False) -> None:
    """Switch back to the previous build at once. A second rollback switches forward again.

    The command is refused if no running worker can fold the previous build.

    Example: tickview rollback patterns
    """
    stores = open_stores(configure())
    commands.check_read_model_name(name)
    record_command(stores, "rollback", name)
    versions = commands.rollback(stores.redis, name)
    if json:
        print_json({"name": name, "live": str(versions.live), "previous": str(versions.previous)})
    else:
        console.print(f"{name}: build {versions.live} is live, {versions.previous} is the previous build")


def _show_progress(client: RedisClient, name: str, build: Build, *, quiet: bool) -> None:
    """Show the progress of the build until it has caught up or is live.

    Raises:
        CommandError: Another build has replaced the build.
        NotFoldableError: The last worker that could fold the build has stopped.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(f"{name} {build}", total=None, rate=0.0)
        while True:
            versions = read_versions(client, [name])[name]
            if versions.building != build:
                if versions.live == build:
                    return
                raise CommandError(
                    f"Another build replaced build {build} of {name}. `tickview projections {name}` shows all builds."
                )
            check_build(client, name, build)
            segments = _status(client, name).building_segments
            progress.update(
                task,
                total=sum(segment.head for segment in segments),
                completed=sum(segment.checkpoint for segment in segments),
                rate=sum(segment.events_per_second for segment in segments),
            )
            if versions.held and build_lifecycle.has_caught_up(client, name, versions, logs_of(client, name)):
                return
            time.sleep(POLL_SECONDS)


def _status(client: RedisClient, name: str) -> ReadModelStatus:
    [status] = [status for status in read_model_statuses(client) if status.name == name]
    return status


def _compare(client: RedisClient, name: str, build: Build, *, quiet: bool) -> tuple[list[Difference], int]:
    """Return the first differences between the live build and this build, and the number of all differences."""
    live = read_versions(client, [name])[name].live
    if live is None or live == build:
        return [], 0
    with Progress(console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("comparing rows", total=None)

        def update(rows: int, all_rows: int) -> None:
            progress.update(task, completed=rows, total=all_rows)

        return first_differences(client, name, BuildPair(live, build), update)


def _switch(client: RedisClient, name: str, build: Build) -> None:
    """Switch as soon as the build has caught up again with the logs, which have grown during the comparison."""
    while not commands.has_caught_up(client, name, build):
        time.sleep(POLL_SECONDS)
    commands.switch(client, name, build)


def _documents(differences: list[Difference]) -> list[dict[str, Any]]:
    return [difference._asdict() for difference in differences]


def _print_result(
    name: str, build: Build, differences: list[Difference], count: int, *, live: bool, compared: bool
) -> None:
    if compared:
        print_table(("key", "field", "old", "new"), _documents(differences), "no row differs")
        if count > len(differences):
            console.print(f"… and {count - len(differences)} more")
        if count:
            console.print(f"{count} differences between the live build of {name} and {build}")
    if live:
        console.print(f"{name}: build {build} is live")
    elif count:
        console.print(f"not switched; if the differences are intended: tickview replay {name} --expect-changes")
    else:
        console.print(
            f"{name}: build {build} has caught up but is not live; to switch: tickview replay {name} --verify"
        )
