"""Writes any range of the archive to a file or a stream, event by event, whatever its size."""

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
from infra.archive.ranges import ArchiveRange, first_position, iso_milliseconds, last_position
from infra.archive.row_format import ArchivedEvent, parse_row
from infra.archive.verification.chain_walk import rows_between
from infra.archive.verification.verify import WHOLE_ARCHIVE, archived_logs, snapshot
from infra.postgres.database import Database
from infra.processes.errors import StartupError

Format = Literal["jsonl", "csv", "parquet"]

COLUMNS = (
    *("log", "position", "recorded_at", "stream", "version", "type", "event_id"),
    *("source", "correlation_id", "origin", "hash", "data", "data_base64"),
)
"""What is exported of an event; of the last two one is empty."""

CHUNK_EVENTS = 2_000
"""Events held in memory; a row group of Parquet."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ENDS = "SELECT min(position), max(position) FROM tickview.events WHERE log = %s"

Progress = Callable[[int, int], object]
"""Told how many events have been written, and how many there are to write."""


def _tell_nobody(_done: int, _total: int) -> None:
    pass


Row = dict[str, Any]
Write = Callable[[Iterator[list[Row]], IO[bytes]], None]


def export(
    database: Database,
    out: IO[bytes],
    form: Format,
    log: str | None = None,
    bounds: ArchiveRange = WHOLE_ARCHIVE,
    progress: Progress = _tell_nobody,
) -> int:
    """Write the events of a range, by log and position, as they are at this moment; returns how many.

    Raises StartupError for a log that the archive does not have, and for Parquet without pyarrow.
    """
    write = _WRITERS[form]()
    done = 0
    with snapshot(database) as connection:
        ranges = [(name, *_range(connection, name, bounds)) for name in archived_logs(connection, log)]
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


def _range(connection: Connection, log: str, bounds: ArchiveRange) -> tuple[int, int]:
    """The first and the last position; the last is below the first where there are none."""
    found = connection.execute(_ENDS, [log]).fetchone()
    lowest, highest = found if found and found[0] is not None else (1, 0)
    first = first_position(connection, log, bounds.start)
    if first is None:
        return 1, 0
    return max(first, lowest) if bounds.start else lowest, min(last_position(connection, log, bounds.end), highest)


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
    """The state as it is where it is JSON, else in base64."""
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
        # Outside of JSON's texts, which have none, a line break means no more than a space.
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
        raise StartupError("Parquet is written by pyarrow: pip install 'tickview[parquet]'") from error
    kinds = {"position": pa.int64(), "version": pa.int64(), "recorded_at": pa.timestamp("ms", tz="UTC")}
    schema = pa.schema([(column, kinds.get(column, pa.string())) for column in COLUMNS])

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
