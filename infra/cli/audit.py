"""``tickview audit``: verify the archive, print and check its heads, and export its events."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from infra.archive.export import Format
from infra.archive.export import export as export_archive
from infra.archive.ranges import ArchiveRange, check_range, parse_range_end
from infra.archive.row_history.tables import HistoryTables
from infra.archive.row_history.versions import restart_version
from infra.archive.verification.heads import read_head_file
from infra.archive.verification.verify import Verification
from infra.cli.errors import NEGATIVE_OUTCOME, CommandError
from infra.cli.journal import record_or_warn
from infra.cli.output import JsonOption, console, notes, print_json, print_table
from infra.composition import open_database, open_read_database
from infra.operations.verification import check_heads, record_if_whole, take_signed_heads, verify_everything
from infra.plugins import configure
from projections.registry import READ_MODELS

app = typer.Typer(help="Verify the archive, print and check its heads, and export its events.", no_args_is_help=True)

LogOption = Annotated[str | None, typer.Option(help="Name of one log, for example market-0. Default: all logs.")]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="First position of each log, or earliest time (ISO 8601, by default in UTC)."),
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to", help="Last position of each log, or a time (ISO 8601, by default in UTC) after the latest event."
    ),
]


@app.command()
def verify(log: LogOption = None, start: FromOption = None, end: ToOption = None, json: JsonOption = False) -> None:
    """Recompute the hash chains of the archive, and derive the histories of read models again from the events.

    The command prints the first event of each log, and the first row of each history, that does not match. The chains
    are compared with the heads in Redis, and with those in the file of TICKVIEW_AUDIT_HEADS.

    Exit code 3: an event, a row or a head does not match. Exit code 1: there is no event in the range.

    Example: tickview audit verify --log market-0 --from 2026-01-01
    """
    bounds = _parse_range(start, end)
    settings = configure()
    database = open_read_database(settings)
    with _progress_bars() as progress:
        verification = verify_everything(settings, database, log, bounds, progress)
    if not record_if_whole(database.primary, verification, log, bounds):
        notes.print("The result is not recorded, because PostgreSQL only allows reading.", style="dim")
    if json:
        print_json(verification.document())
    else:
        _print_verification(verification)
    if not verification.ok:
        raise typer.Exit(NEGATIVE_OUTCOME)


def _print_verification(verification: Verification) -> None:
    document = verification.document()
    rows = []
    for log in document["logs"]:
        mismatch = log["misfit"]
        result = f"{mismatch['kind']} at {mismatch['position']}: {mismatch['detail']}" if mismatch else "fits"
        rows.append({**log, "found": result})
    print_table(("log", "first", "last", "events", "hash", "found"), rows, "the archive is empty")
    _print_histories(document["histories"])
    for source in document["heads"]:
        compared = f"{source['heads']} heads compared" if source["heads"] else "no heads compared"
        reason = source["misfit"] or source["note"]
        text = f"{source['origin']}: {compared}{f': {reason}' if reason else ''}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{document['events']:,} events verified, {document['events_per_second']:,.0f} per second")


def _print_histories(histories: Sequence[Mapping[str, Any]]) -> None:
    if not histories:
        return
    rows = []
    for history in histories:
        found = history["note"] or "fits"
        if mismatch := history["misfit"]:
            place = " ".join(str(mismatch[name]) for name in ("key", "timeline", "since") if mismatch[name] is not None)
            found = f"{mismatch['kind']}: {place}: {mismatch['detail']}"
        rows.append({**history, "found": found})
    console.print()
    print_table(("history", "version", "log", "events", "rows", "skipped", "found"), rows, "")
    for name in sorted({history["history"] for history in histories if history["misfit"]}):
        console.print(f"`tickview audit rebuild {name}` folds this history again from the events", soft_wrap=True)


@app.command()
def rebuild(
    history: Annotated[str, typer.Argument(help="Name of a history, for example pattern_history.")],
    json: JsonOption = False,
) -> None:
    """Remove the rows of a history, and let the archivers fold the history again from the archived events.

    Verify the events first: the rows follow from them. Until the history is folded again, queries as of a moment wait
    or answer 504.

    Example: tickview audit rebuild pattern_history
    """
    settings = configure()
    database = open_database(settings, writable=True)
    projections = {each.history: each for each in READ_MODELS.values() if each.history}
    if history not in projections:
        raise CommandError(f"There is no history {history!r}. The histories are {', '.join(projections)}.")
    projection = projections[history]
    record_or_warn(settings, "rebuild-history", history, {"version": projection.version})
    with database.connection() as connection:
        rows = restart_version(connection, HistoryTables(projection), projection.version)
    if json:
        print_json({"history": history, "version": projection.version, "removed": rows})
    else:
        console.print(f"{rows:,} rows removed; `tickview archive` folds {history} again")


@app.command()
def head(
    sign: Annotated[bool, typer.Option("--sign", help="Fail if there is no key to sign with.")] = False,
    json: JsonOption = False,
) -> None:
    """Print the heads of the hash chains, signed if TICKVIEW_AUDIT_KEY is set.

    Keep the output of --json in a place that TickView cannot change. `tickview audit check` reads it.

    Example: tickview audit head --json > head.json
    """
    settings = configure()
    if sign and settings.audit_key is None:
        raise CommandError(
            "There is no key to sign with. Set TICKVIEW_AUDIT_KEY to the PEM file of an Ed25519 private key."
        )
    taken = take_signed_heads(settings, open_database(settings))
    document = taken.document()
    if json:
        return print_json(document)
    print_table(("log", "position", "hash", "recorded_at"), document["heads"], "the archive is empty")
    signed = "signed" if taken.signature else "not signed"
    return console.print(f"taken at {taken.taken_at}, {signed}; use --json for a file that can be checked later")


@app.command()
def check(
    head_file: Annotated[Path, typer.Argument(help="Output file of `tickview audit head --json`.")],
    json: JsonOption = False,
) -> None:
    """Check that the present history extends the heads of an earlier time.

    With TICKVIEW_AUDIT_KEY, the file must have a valid signature. Logs that the file does not name are listed, too.

    Exit code 3: the history does not extend the heads, the file is incomplete, or its signature is missing or invalid.

    Example: tickview audit check head.json
    """
    settings = configure()
    taken = read_head_file(head_file)
    database = open_read_database(settings)
    with _progress_bars() as progress:
        result = check_heads(settings, database, taken, progress)
    ok = result["ok"]
    if json:
        print_json(result)
    else:
        columns = ("log", "position", "recorded_at", "extends", "detail")
        print_table(columns, result["heads"], "the file contains no heads")
        console.print(f"signature: {result['signature']}")
        console.print("today's history extends these heads" if ok else "today's history does not match this file")
    if not ok:
        raise typer.Exit(NEGATIVE_OUTCOME)


@app.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="Format of the output: jsonl, csv or parquet.")],
    log: LogOption = None,
    start: FromOption = None,
    end: ToOption = None,
    output: Annotated[Path | None, typer.Option(help="Output file. Default: standard output.")] = None,
) -> None:
    """Export events with their hashes, ordered by log and position.

    Example: tickview audit export --from 2026-01-01 --to 2026-02-01 --format parquet --output january.parquet
    """
    bounds = _parse_range(start, end)
    if form == "parquet" and output is None:
        raise CommandError("Parquet needs an output file. Add --output FILE.")
    database = open_read_database(configure())
    database.catch_up()
    with _progress_bars() as progress, _output_file(output) as out:
        count = export_archive(database, out, form, log, bounds, lambda done, total: progress("exporting", done, total))
    notes.print(f"{count:,} events exported", style="dim")


@contextmanager
def _output_file(path: Path | None) -> Iterator[IO[bytes]]:
    """Yield the output file, or standard output. The file gets its name only when it is complete."""
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
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar for each name. Yield the function that updates a bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bars:
        tasks = {}

        def update(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield update


def _parse_range(start: str | None, end: str | None) -> ArchiveRange:
    try:
        bounds = ArchiveRange(*(None if text is None else parse_range_end(text) for text in (start, end)))
        check_range(bounds)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return bounds
