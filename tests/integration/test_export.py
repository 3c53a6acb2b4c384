"""Exports of the archive: every event of the range, in order and unchanged, in each format."""

import base64
import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from redis import Redis

from domain.log import LogEntry
from infra.archive.archiver import Archiver
from infra.archive.errors import AuditError
from infra.archive.export import CHUNK_EVENTS, COLUMNS, Format, export
from infra.archive.ranges import ArchiveRange, parse_range_end
from infra.archive.row_format import GENESIS, canonical_bytes, chain_hash
from infra.archive.verification.verify import WHOLE_ARCHIVE
from infra.postgres.database import Database
from tests.archiving import acquire_archiver_lease, archived_log

STATES = [
    b'{"source":"bench","correlation_id":"flow","value":1.50}',
    b'{\n  "text": "a \\n line, \\"quoted\\", \xc3\xa4"\r\n}',
    b"",
    b"\x00\xff",
    b"NaN",
    b"[1,2]",
]
FORMATS: list[Format] = ["jsonl", "csv", "parquet"]


def entry(position: int) -> LogEntry:
    recorded_at = datetime(2025, 12, 1 + position, 12, tzinfo=UTC).timestamp() + 0.123
    state = STATES[(position - 1) % len(STATES)]
    topic = "domain.events:PatternDetected"
    return LogEntry(position, f"symbol-{position}", 1, topic, f"id-{position}", recorded_at, state)


@pytest.fixture
def archive(redis: Redis, database: Database) -> Iterator[Database]:
    """Archive of two logs with twelve events each."""
    for name in ("users", "market-0"):
        log = archived_log(redis, database, name)
        log.open()
        Archiver(database, log, acquire_archiver_lease(database, name), 100).archive(
            [entry(position) for position in range(1, 13)]
        )
    return database


def export_rows(
    database: Database, file_format: Format, log: str | None = None, bounds: ArchiveRange = WHOLE_ARCHIVE
) -> list[dict[str, Any]]:
    """Export a range and return the rows of the file."""
    out = io.BytesIO()
    count = export(database, out, file_format, log, bounds)
    if file_format == "parquet":
        rows = pq.read_table(io.BytesIO(out.getvalue())).to_pylist()
    elif file_format == "csv":
        rows = list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))
    else:
        rows = [orjson.loads(line) for line in out.getvalue().splitlines()]
    assert len(rows) == count
    return rows


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_export_has_all_events_by_log_and_position(archive: Database, file_format: Format) -> None:
    rows = export_rows(archive, file_format)
    assert [(row["log"], int(row["position"])) for row in rows] == [
        (log, position) for log in ("market-0", "users") for position in range(1, 13)
    ]
    expected_hash = GENESIS
    for row, position in zip(rows, range(1, 13), strict=False):
        original = entry(position)
        expected_hash = chain_hash(expected_hash, canonical_bytes("market-0", original))
        assert row["hash"] == expected_hash.hex()
        assert (row["stream"], int(row["version"]), row["event_id"]) == (original.stream, 1, original.event_id)
        assert row["type"] == "PatternDetected"
        recorded_at = row["recorded_at"]
        moment = recorded_at.isoformat() if file_format == "parquet" else recorded_at
        assert moment[:23] == f"2025-12-{1 + position:02}T12:00:00.123"
        assert (row["source"] or None, row["correlation_id"] or None) == (
            ("bench", "flow") if original.state == STATES[0] else (None, None)
        )
        if row.get("data_base64"):
            assert base64.b64decode(row["data_base64"]) == original.state
        elif file_format == "jsonl":
            assert row.get("data", b"") == (orjson.loads(original.state) if original.state else b"")
        else:
            assert (row["data"] or "").encode() == original.state
    if file_format != "jsonl":
        assert list(rows[0]) == list(COLUMNS)


def test_json_is_exported_exactly_as_recorded(archive: Database) -> None:
    out = io.BytesIO()
    export(archive, out, "jsonl", "users", ArchiveRange(end=1))
    assert b'"data":' + STATES[0] + b"}" in out.getvalue()


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("3", "5", 3, 5),
        (None, "1", 1, 1),
        ("12", "99", 12, 12),
        ("2025-12-04", "2025-12-06", 3, 4),
        ("2025-12-04T12:00:00.123Z", "2025-12-06T12:00:00.123+00:00", 3, 4),
        ("2025-12-04T13:00:00.123+01:00", None, 3, 12),
        ("4", "2025-12-06T00:00", 4, 4),
        ("13", None, 1, 0),
        ("2026-01-01", None, 1, 0),
    ],
)
def test_a_range_includes_its_end_position_and_excludes_its_end_time(
    archive: Database, start: str | None, end: str | None, first: int, last: int
) -> None:
    bounds = ArchiveRange(*(None if text is None else parse_range_end(text) for text in (start, end)))
    rows = export_rows(archive, "jsonl", "users", bounds)
    assert [row["position"] for row in rows] == list(range(first, last + 1))


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_export_of_an_empty_archive_is_a_valid_file_without_rows(database: Database, file_format: Format) -> None:
    assert export_rows(database, file_format) == []


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_export_of_more_than_one_chunk_is_complete(redis: Redis, database: Database, file_format: Format) -> None:
    log = archived_log(redis, database)
    log.open()
    count = 2 * CHUNK_EVENTS + 1
    template = entry(1)
    entries = [template._replace(position=position, version=position) for position in range(1, count + 1)]
    Archiver(database, log, acquire_archiver_lease(database, log.name), count).archive(entries)
    reports: list[tuple[int, int]] = []
    out = io.BytesIO()
    export(database, out, file_format, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(CHUNK_EVENTS, count), (2 * CHUNK_EVENTS, count), (count, count)]
    assert [int(row["position"]) for row in export_rows(database, file_format)] == list(range(1, count + 1))
    if file_format == "parquet":
        assert pq.ParquetFile(io.BytesIO(out.getvalue())).num_row_groups == 3


def test_an_export_of_an_unknown_log_is_refused(archive: Database) -> None:
    with pytest.raises(AuditError, match=r"no log market-7\. It has: market-0, users"):
        export(archive, io.BytesIO(), "jsonl", "market-7")
