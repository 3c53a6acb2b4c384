"""Export of a range of the archive as JSON Lines, CSV or Parquet, in constant memory."""

import base64
import csv
import io
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import IO, Any, Literal

import orjson
from psycopg import Connection

from domain.codec import TOPIC_PREFIX
from infra.archive.errors import AuditError
from infra.archive.ranges import WHOLE_ARCHIVE, ArchiveRange, first_position, iso_milliseconds, last_position
from infra.archive.row_format import ArchivedEvent, parse_row
from infra.archive.verification.chain_walk import rows_between
from infra.archive.verification.snapshots import snapshot
from infra.archive.verification.verify import archived_logs
from infra.postgres.database import Database
from infra.postgres.statements import load_statements

Format = Literal["jsonl", "csv", "parquet"]

COLUMNS = (
    *("log", "position", "recorded_at", "stream", "version", "type", "event_id"),
    *("source", "correlation_id", "origin", "hash", "data", "data_base64"),
)
"""The columns of an export. Either ``data`` or ``data_base64`` is empty."""

CHUNK_EVENTS = 2_000
"""Number of events in memory, and in a row group of Parquet."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SELECT_POSITION_LIMITS = load_statements(__package__)["select_position_limits"]

Progress = Callable[[int, int], object]
"""A function that is called with the number of exported events, and the number of events to export."""


def _no_progress(_done: int, _total: int) -> None:
    pass


Row = dict[str, Any]
Write = Callable[[Iterator[list[Row]], IO[bytes]], None]


def export(
    database: Database,
    out: IO[bytes],
    output_format: Format,
    log: str | None = None,
    archive_range: ArchiveRange = WHOLE_ARCHIVE,
    progress: Progress = _no_progress,
) -> int:
    """Export events by log and position, as they are in the archive at this moment.

    Args:
        database: The archive.
        out: The file or stream to write.
        output_format: The format.
        log: The log to export; None for every log.
        archive_range: The range of each log.
        progress: A function that is told the progress.

    Returns:
        The number of exported events.

    Raises:
        AuditError: The archive does not have the log, or Parquet was chosen without pyarrow.
    """
    write = _WRITERS[output_format]()
    done = 0
    with snapshot(database) as connection:
        names = archived_logs(connection, log)
        ranges = [(name, *_positions(connection, name, archive_range)) for name in names]
        total = sum(max(last - first + 1, 0) for _, first, last in ranges)

        def chunks() -> Generator[list[Row]]:
            nonlocal done
            for name, first, last in ranges:
                with closing(rows_between(connection, name, first, last)) as rows:
                    events = map(parse_row, rows)
                    while chunk := [_row(event) for event in islice(events, CHUNK_EVENTS)]:
                        yield chunk
                        done += len(chunk)
                        progress(done, total)

        with closing(chunks()) as rows:
            write(rows, out)
    return done


def _positions(connection: Connection, log: str, archive_range: ArchiveRange) -> tuple[int, int]:
    """Return the first and the last position of a log in a range. The last is below the first if there are none."""
    row = connection.execute(_SELECT_POSITION_LIMITS, [log]).fetchone()
    lowest, highest = row if row and row[0] is not None else (1, 0)
    first = first_position(connection, log, archive_range.start)
    if first is None:
        return 1, 0
    last = min(last_position(connection, log, archive_range.end), highest)
    return max(first, lowest) if archive_range.start else lowest, last


def _row(event: ArchivedEvent) -> Row:
    entry = event.entry
    return {
        "log": event.log,
        "position": entry.position,
        "recorded_at": _EPOCH + timedelta(milliseconds=round(entry.recorded_at * 1000)),
        "stream": entry.stream,
        "version": entry.version,
        "type": entry.topic.removeprefix(TOPIC_PREFIX),
        "event_id": entry.event_id,
        "source": event.source,
        "correlation_id": event.correlation_id,
        "origin": entry.origin,
        "hash": (event.hash or b"").hex(),
        **_data(entry.state),
    }


def _data(state: bytes) -> Row:
    """Return the state unchanged if it is JSON, else in base64."""
    try:
        orjson.loads(state)
    except orjson.JSONDecodeError:
        return {"data": None, "data_base64": base64.b64encode(state).decode()}
    return {"data": state.decode(), "data_base64": None}


def _write_jsonl(chunks: Iterator[list[Row]], out: IO[bytes]) -> None:
    for chunk in chunks:
        out.write(b"".join(map(_json_line, chunk)))


def _json_line(row: Row) -> bytes:
    row["recorded_at"] = iso_milliseconds(row["recorded_at"])
    if row["data"] is None:
        del row["data"]
    else:
        # A line break can only stand between the tokens of JSON, where it means the same as a space.
        row["data"] = orjson.Fragment(row["data"].replace("\n", " ").replace("\r", " "))
        del row["data_base64"]
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _write_csv(chunks: Iterator[list[Row]], out: IO[bytes]) -> None:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    lines = csv.DictWriter(text, COLUMNS)
    lines.writeheader()
    for chunk in chunks:
        for row in chunk:
            row["recorded_at"] = iso_milliseconds(row["recorded_at"])
        lines.writerows(chunk)
    text.detach()


def _parquet_writer() -> Write:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise AuditError("An export to Parquet needs pyarrow. Run: pip install 'tickview[parquet]'") from error
    types = {"position": pa.int64(), "version": pa.int64(), "recorded_at": pa.timestamp("ms", tz="UTC")}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in COLUMNS])

    def write(chunks: Iterator[list[Row]], out: IO[bytes]) -> None:
        with pq.ParquetWriter(out, schema) as file:
            for chunk in chunks:
                file.write_table(pa.Table.from_pylist(chunk, schema))

    return write


_WRITERS: dict[Format, Callable[[], Write]] = {
    "jsonl": lambda: _write_jsonl,
    "csv": lambda: _write_csv,
    "parquet": _parquet_writer,
}
