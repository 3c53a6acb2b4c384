"""``tickview audit``: verify the archive, take and check its heads, export it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated

import typer
from psycopg import errors
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from infra.archive.export import Format
from infra.archive.export import export as export_archive
from infra.archive.ranges import ArchiveRange, check_range, parse_range_end
from infra.archive.verification import heads as heads_
from infra.archive.verification.verify import Verification, record_verification
from infra.archive.verification.verify import verify as verify_archive
from infra.bench.measurement import PROGRESS
from infra.cli.output import JsonOption, console, print_json, print_table
from infra.composition import open_database
from infra.processes.errors import StartupError
from infra.settings import Settings

MISFIT = 3
"""The exit code where something does not fit."""

app = typer.Typer(help="Verify the archive, take and check its heads, export it.", no_args_is_help=True)

LogOption = Annotated[str | None, typer.Option(help="One log, for instance market-0; all if not given.")]
From = Annotated[
    str | None,
    typer.Option("--from", help="Position of each log, or time (ISO 8601, UTC if it says no zone); included."),
]
To = Annotated[
    str | None,
    typer.Option("--to", help="Position of each log, included; or time (ISO 8601, UTC if it says no zone), excluded."),
]


@app.command()
def verify(log: LogOption = None, start: From = None, end: To = None, json: JsonOption = False) -> None:
    """Recompute the chains of hashes; exit code 3, and the first event that does not fit, where one does not.

    Example: tickview audit verify --log market-0 --from 2026-01-01
    """
    bounds = _bounds(start, end)
    database = open_database(Settings())
    with _bars() as progress:
        verification = verify_archive(database, log, bounds, progress)
    if log is None and bounds == ArchiveRange():
        try:
            record_verification(database, verification)
        except errors.InsufficientPrivilege:
            PROGRESS.print("not recorded: this PostgreSQL role may only read", style="dim")
    if json:
        print_json(verification.document())
    else:
        _tell(verification)
    if not verification.ok:
        raise typer.Exit(MISFIT)


def _tell(verification: Verification) -> None:
    shown = verification.document()
    rows = []
    for log in shown["logs"]:
        misfit = log["misfit"]
        what = f"{misfit['kind']} at {misfit['position']}: {misfit['detail']}" if misfit else "fits"
        rows.append({**log, "found": what})
    print_table(("log", "first", "last", "events", "hash", "found"), rows, "the archive is empty")
    console.print(f"{shown['events']:,} events verified, {shown['events_per_second']:,.0f} a second")


@app.command()
def head(
    sign: Annotated[bool, typer.Option("--sign", help="Insist on a signature.")] = False, json: JsonOption = False
) -> None:
    """The heads of the chains, signed where TICKVIEW_AUDIT_KEY is set; keep what --json prints where we cannot reach.

    Example: tickview audit head --json > head.json
    """
    settings = Settings()
    if sign and settings.audit_key is None:
        raise StartupError("there is no key to sign with: set TICKVIEW_AUDIT_KEY to the PEM file of an Ed25519 key")
    key = heads_.read_private_key(settings.audit_key) if settings.audit_key else None
    taken = heads_.take_heads(open_database(settings), datetime.now(UTC))
    if key:
        taken = heads_.sign(taken, key)
    shown = taken.document()
    if json:
        return print_json(shown)
    print_table(("log", "position", "hash", "recorded_at"), shown["heads"], "the archive is empty")
    signed = "signed" if key else "not signed"
    return console.print(f"taken at {taken.taken_at}, {signed}; to keep it, print it with --json")


@app.command()
def check(
    head_file: Annotated[Path, typer.Argument(help="What `tickview audit head --json` printed.")],
    json: JsonOption = False,
) -> None:
    """Prove that today's history extends heads taken earlier; exit code 3 where it does not, or a signature is false.

    Example: tickview audit check head.json
    """
    settings = Settings()
    taken = heads_.read_head_file(head_file)
    key = heads_.read_public_key(settings.audit_key) if settings.audit_key else None
    signature = heads_.check_signature(taken, key)
    database = open_database(settings)
    with _bars() as progress:
        found = heads_.check_extension(database, taken, progress)
    rows = [{**one.head.model_dump(), "extends": one.extends, "detail": one.detail} for one in found]
    ok = all(one.extends for one in found) and signature not in heads_.REJECTED_SIGNATURES
    if json:
        print_json({"ok": ok, "taken_at": taken.taken_at, "signature": signature, "heads": rows})
    else:
        print_table(("log", "position", "recorded_at", "extends", "detail"), rows, "the file has no heads")
        console.print(f"signature: {signature}")
        console.print("today's history extends these heads" if ok else "today's history does not stand up to this file")
    if not ok:
        raise typer.Exit(MISFIT)


@app.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="jsonl, csv or parquet.")],
    log: LogOption = None,
    start: From = None,
    end: To = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file; standard output if not given.")] = None,
) -> None:
    """Write events, by log and position, with their hashes.

    Example: tickview audit export --from 2026-01-01 --to 2026-02-01 --format parquet --output january.parquet
    """
    bounds = _bounds(start, end)
    if form == "parquet" and output is None:
        raise StartupError("Parquet goes to a file: give --output FILE")
    database = open_database(Settings())
    with _bars() as progress, _written(output) as out:
        count = export_archive(database, out, form, log, bounds, lambda done, total: progress("exporting", done, total))
    PROGRESS.print(f"{count:,} events exported", style="dim")


@contextmanager
def _written(path: Path | None) -> Iterator[IO[bytes]]:
    """The file, which is there only once it is whole; or standard output."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(path)
    except OSError as error:
        raise StartupError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each thing that is under way."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=PROGRESS, transient=True, disable=not PROGRESS.is_terminal) as bars:
        tasks = {}

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield told


def _bounds(start: str | None, end: str | None) -> ArchiveRange:
    try:
        bounds = ArchiveRange(*(None if text is None else parse_range_end(text) for text in (start, end)))
        check_range(bounds)
    except ValueError as error:
        raise StartupError(str(error)) from error
    return bounds
