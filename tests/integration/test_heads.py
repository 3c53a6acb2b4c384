"""Head files: they reveal a rewritten history, even if all hashes of the archive were recomputed."""

import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis

from domain.log import LogEntry
from infra.archive.archiver import Archiver
from infra.archive.errors import AuditError
from infra.archive.verification.heads import (
    HeadFile,
    check_extension,
    check_signature,
    is_accepted,
    read_head_file,
    read_private_key,
    read_public_key,
    sign,
    take_heads,
)
from infra.archive.verification.verify import verify
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from tests.archiving import acquire_archiver_lease, archive_to_end, archived_log
from tests.events import opaque_event
from tests.oracles.hash_chain import chain_hashes

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)


@pytest.fixture
def archiver(redis: Redis, database: Database) -> Archiver:
    """Archiver that has archived ten events."""
    log = archived_log(redis, database)
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), 100)
    archive_more(log, archiver, 10)
    return archiver


def archive_more(log: EventLog, archiver: Archiver, count: int) -> None:
    log.append([opaque_event() for _ in range(count)])
    assert len(archiver.step(0)) == count


def rewrite(database: Database, change: str) -> None:
    """Change events and recompute all hashes and the checkpoint, as an attacker with access to the database can."""
    with database.connection() as connection:
        connection.execute(change.encode())
        rows = connection.execute("SELECT * FROM tickview.events ORDER BY position").fetchall()
        hashes = chain_hashes(rows)
        for row, recomputed in zip(rows, hashes, strict=True):
            connection.execute("UPDATE tickview.events SET hash = %s WHERE position = %s", [recomputed, row[1]])
        connection.execute("UPDATE tickview.logs SET hash = %s", [hashes[-1]])
        connection.execute("UPDATE tickview.segments SET position = %s", [len(rows)])


def check_head_file(database: Database, head_file: HeadFile) -> tuple[bool, str]:
    """Return whether the archive extends the only head of the file, and the details."""
    [result] = check_extension(database, head_file, lambda *_: None)
    return result.extends, result.detail


def test_an_unchanged_history_extends_its_heads(redis: Redis, database: Database, archiver: Archiver) -> None:
    head_file = take_heads(database, NOW)
    [head] = head_file.heads
    assert (head.log, head.position, head_file.taken_at) == ("market-0", 10, "2026-01-02T03:04:05.678Z")
    assert check_head_file(database, head_file) == (True, "0 events have come since")
    archive_more(archived_log(redis, database), archiver, 5)
    assert check_head_file(database, head_file) == (True, "5 events have come since")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE tickview.events SET state = '[]' WHERE position = 4", "the history up to the head was changed"),
        ("UPDATE tickview.events SET origin = 'http' WHERE position = 10", "the history up to the head was changed"),
        ("DELETE FROM tickview.events WHERE position > 8", "the archive ends before it"),
    ],
)
def test_a_rewritten_history_with_valid_hashes_does_not_extend_its_heads(
    database: Database,
    archiver: Archiver,
    change: str,
    reason: str,
) -> None:
    assert archiver.lease.checkpoint == 10
    head_file = take_heads(database, NOW)
    rewrite(database, change)
    assert verify(database).ok
    extends, detail = check_head_file(database, head_file)
    assert not extends
    assert reason in detail


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE tickview.events SET state = '[]' WHERE position = 4", "event 4 does not fit: changed"),
        ("UPDATE tickview.events SET state = '[]' WHERE position = 12", "event 12 is changed"),
        ("DELETE FROM tickview.events WHERE position >= 10", "event 10 does not fit: missing"),
        ("DELETE FROM tickview.events; DELETE FROM tickview.segments; DELETE FROM tickview.logs", "no such log"),
    ],
)
def test_a_history_that_fails_verification_does_not_extend_its_heads(
    redis: Redis, database: Database, archiver: Archiver, change: str, reason: str
) -> None:
    head_file = take_heads(database, NOW)
    archive_more(archived_log(redis, database), archiver, 5)
    with database.connection() as connection:
        connection.execute(change.encode())
    extends, detail = check_head_file(database, head_file)
    assert not extends
    assert reason in detail


@pytest.mark.parametrize("named", [[], ["users"]], ids=["no log is named", "another log is named"])
def test_a_head_file_that_does_not_name_an_older_log_is_incomplete(
    redis: Redis, database: Database, archiver: Archiver, named: list[str]
) -> None:
    assert archiver.lease.checkpoint == 10
    users = archived_log(redis, database, "users")
    users.append([opaque_event()])
    archive_to_end(database, users)
    complete = take_heads(database, datetime.now(UTC))
    kept = [head for head in complete.heads if head.log in named]
    results = check_extension(database, complete.model_copy(update={"heads": kept}), lambda *_: None)
    assert {result.log: result.extends for result in results} == {"market-0": False, "users": bool(named)}
    [market] = [result for result in results if result.log == "market-0"]
    assert market.head is None
    assert "the file is incomplete" in market.detail
    assert market.document()["position"] is None


def test_a_log_that_began_after_the_heads_were_taken_is_reported_and_accepted(
    redis: Redis, database: Database, archiver: Archiver
) -> None:
    assert archiver.lease.checkpoint == 10
    head_file = take_heads(database, datetime.now(UTC))
    users = archived_log(redis, database, "users")
    archive_to_end(database, users)
    results = check_extension(database, head_file, lambda *_: None)
    assert [(result.log, result.extends, result.detail) for result in results[1:]] == [
        ("users", True, "the log has no events")
    ]
    archive_more(users, Archiver(database, users, acquire_archiver_lease(database, "users"), 100), 1)
    _, later = check_extension(database, head_file, lambda *_: None)
    assert later.extends
    assert "began after the heads were taken" in later.detail
    with database.connection() as connection:
        connection.execute("UPDATE tickview.events SET state = '[]' WHERE log = 'users' AND position = 1")
    _, changed = check_extension(database, head_file, lambda *_: None)
    assert not changed.extends
    assert "event 1 does not fit: changed" in changed.detail


def test_a_log_whose_first_month_was_detached_does_not_count_as_new(
    redis: Redis, database: Database, archiver: Archiver
) -> None:
    [event] = archived_log(redis, database).read(0, 1)
    users = archived_log(redis, database, "users")
    users.open()
    moments = [datetime(2025, 11, 3, tzinfo=UTC), datetime(2025, 12, 3, tzinfo=UTC)]
    events = [
        event._replace(position=position, version=position, recorded_at=moment.timestamp())
        for position, moment in enumerate(moments, 1)
    ]
    Archiver(database, users, acquire_archiver_lease(database, "users"), 100).archive(events)
    with database.connection() as connection:
        connection.execute("ALTER TABLE tickview.events DETACH PARTITION tickview.events_2025_11")
    head_file = HeadFile(heads=[], taken_at="2025-11-20T00:00:00.000Z")
    results = check_extension(database, head_file, lambda *_: None)
    assert [(result.log, result.extends) for result in results] == [("market-0", True), ("users", False)]
    assert archiver.lease.checkpoint == 10


def test_heads_of_a_log_whose_events_are_all_detached_are_taken_and_extended(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database)
    log.open()
    first, last = (datetime(2025, 11, day, tzinfo=UTC).timestamp() for day in (3, 30))
    entries = [
        LogEntry(1, "s", 1, "t:One", "a", first, b"{}", "http"),
        LogEntry(2, "s", 2, "t:One", "b", last, b"{}", "http"),
    ]
    Archiver(database, log, acquire_archiver_lease(database, log.name), 100).archive(entries)
    attached = take_heads(database, NOW)
    with database.connection() as connection:
        connection.execute("ALTER TABLE tickview.events DETACH PARTITION tickview.events_2025_11")
    detached = take_heads(database, NOW)
    assert detached == attached
    assert detached.heads[0].recorded_at == "2025-11-30T00:00:00.000Z"
    since = date(2025, 12, 1)
    [result] = check_extension(database, detached, lambda *_: None, since)
    assert (result.extends, result.detail) == (True, "0 events have come since")
    [unnamed] = check_extension(
        database, HeadFile(heads=[], taken_at="2025-11-20T00:00:00.000Z"), lambda *_: None, since
    )
    assert not unnamed.extends
    assert "which has events since 2025-11-01" in unnamed.detail


def test_heads_are_not_taken_if_the_last_event_was_deleted(database: Database, archiver: Archiver) -> None:
    with database.connection() as connection:
        connection.execute("DELETE FROM tickview.events WHERE position = %s", [archiver.lease.checkpoint])
    with pytest.raises(AuditError, match="is not the archived event"):
        take_heads(database, NOW)


def test_a_head_file_with_an_invalid_time_is_refused(database: Database) -> None:
    with pytest.raises(AuditError, match="taken_at"):
        check_extension(database, HeadFile(heads=[], taken_at="yesterday"), lambda *_: None)


def test_taking_heads_of_an_inconsistent_archive_is_refused(database: Database, archiver: Archiver) -> None:
    with database.connection() as connection:
        connection.execute(
            "UPDATE tickview.events SET hash = sha256(hash) WHERE position = %s", [archiver.lease.checkpoint]
        )
    with pytest.raises(AuditError, match=r"last event of market-0, 10, .*tickview audit verify"):
        take_heads(database, NOW)


def openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Files of a private key and its public key, created by OpenSSL."""
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(private))
    openssl("pkey", "-in", str(private), "-pubout", "-out", str(public))
    return private, public


def test_a_signature_is_checked_with_the_private_or_the_public_key(
    database: Database, archiver: Archiver, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    assert archiver.lease.checkpoint == 10
    private, public = keys
    file = tmp_path / "head.json"
    file.write_bytes(orjson.dumps(sign(take_heads(database, NOW), read_private_key(private)).document()))
    head_file = read_head_file(file)
    assert check_signature(head_file, read_public_key(private)) == "valid"
    assert check_signature(head_file, read_public_key(public)) == "valid"
    assert check_signature(head_file, None) == "not checked: no key is set"
    assert check_signature(head_file, Ed25519PrivateKey.generate().public_key()) == "another key"
    unsigned = check_signature(head_file.model_copy(update={"signature": None}), read_public_key(public))
    assert unsigned == "not signed"
    assert not is_accepted(unsigned, read_public_key(public))
    assert is_accepted(unsigned, None)


def change_position(document: dict[str, object]) -> None:
    document["heads"][0]["position"] = 9  # type: ignore[index]


def change_time(document: dict[str, object]) -> None:
    document["taken_at"] = "2020-01-01T00:00:00.000Z"


def drop_log(document: dict[str, object]) -> None:
    document["heads"] = []


@pytest.mark.parametrize("forge", [change_position, change_time, drop_log])
def test_a_forged_head_file_is_detected(
    database: Database,
    archiver: Archiver,
    keys: tuple[Path, Path],
    tmp_path: Path,
    forge: Callable[[dict[str, object]], None],
) -> None:
    assert archiver.lease.checkpoint == 10
    document = sign(take_heads(database, NOW), read_private_key(keys[0])).document()
    forge(document)
    file = tmp_path / "head.json"
    file.write_bytes(orjson.dumps(document))
    assert check_signature(read_head_file(file), read_public_key(keys[1])) == "forged"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b"{}", "heads: Field required"),
        (b'{"heads": [{"log": "a"}], "taken_at": ""}', "heads.0.position: Field required"),
        (b'{"heads": [], "taken_at": "", "more": 1}', "more: Extra inputs"),
        (
            b'{"heads": [{"log": "a", "position": 1, "hash": "00", "recorded_at": ""}], "taken_at": ""}',
            "heads.0.hash: String should match",
        ),
        (b'{"heads": [], "taken_at": "", "signature": "?"}', "signature: String should match"),
    ],
)
def test_an_invalid_head_file_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "head.json"
    file.write_bytes(content)
    with pytest.raises(AuditError) as refused:
        read_head_file(file)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_invalid_key_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    for read in (read_private_key, read_public_key):
        with pytest.raises(AuditError, match="TICKVIEW_AUDIT_KEY"):
            read(file)
    file.write_bytes(b"no key")
    for read in (read_private_key, read_public_key):
        with pytest.raises(AuditError, match="TICKVIEW_AUDIT_KEY"):
            read(file)
    openssl("genpkey", "-algorithm", "ed448", "-out", str(file))
    for read in (read_private_key, read_public_key):
        with pytest.raises(AuditError, match="not an Ed25519 key"):
            read(file)
