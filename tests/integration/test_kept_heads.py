"""Heads outside of the archive. They reveal changes after which the chain fits."""

import subprocess
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest
from redis import Redis

from infra.archive.archiver import Archiver
from infra.archive.errors import AuditError
from infra.archive.head_keeper import HeadKeeper
from infra.archive.ranges import ArchiveRange
from infra.archive.verification.heads import check_signature, read_head_file, read_public_key
from infra.archive.verification.published_heads import publish_heads, read_published_heads
from infra.archive.verification.tamper_detection import TamperFinding
from infra.archive.verification.verify import Verification, verify
from infra.log.event_log import EventLog
from infra.log.maintenance import ArchivedHead, kept_archived_head
from infra.log.partitions import fix_partitions
from infra.operations.verification import verify_everything
from infra.postgres.database import Database
from infra.settings import Settings
from tests.archiving import acquire_archiver_lease, archived_log
from tests.events import opaque_event
from tests.integration.test_heads import rewrite

LOG = "market-0"


@pytest.fixture
def log(redis: Redis, database: Database) -> EventLog:
    """A log with ten archived events, whose head Redis keeps."""
    fix_partitions(redis, 1)
    log = archived_log(redis, database, LOG)
    archive_more(log, database, 10)
    return log


def archive_more(log: EventLog, database: Database, count: int) -> None:
    """Append and archive events, and keep the head, as an archiver that has just been started does."""
    log.open()
    log.append([opaque_event() for _ in range(count)])
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), 100)
    while archiver.step(0):
        pass
    HeadKeeper(database, log).keep(archiver.head)


def run(database: Database, *statements: str) -> None:
    with database.connection() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def everything(database: Database, redis_url: str, bounds: ArchiveRange | None = None, **more: Any) -> Verification:
    settings = Settings(redis_url=redis_url, postgres_dsn=database.dsn, **more)
    return verify_everything(settings, database, archive_range=bounds or ArchiveRange())


def finding(verification: Verification) -> TamperFinding | None:
    """Return the finding of the log, which must decide whether the verification succeeds."""
    [log] = [log for log in verification.logs if log.log == LOG]
    assert verification.ok is (log.finding is None)
    return log.finding


CUT_OFF = "DELETE FROM tickview.events WHERE position > 8"
REMOVE_LOG = [f"DELETE FROM tickview.{table}" for table in ("events", "logs", "segments", "anchors")]  # noqa: S608


def test_an_unchanged_archive_extends_the_heads_in_redis(redis_url: str, log: EventLog, database: Database) -> None:
    head = kept_archived_head(log)
    assert head is not None
    assert head.position == 10
    verification = everything(database, redis_url)
    assert finding(verification) is None
    assert verification.document()["heads"] == [{"origin": "redis", "heads": 1, "misfit": None, "note": None}]
    archive_more(log, database, 5)
    assert kept_archived_head(log) != head
    assert finding(everything(database, redis_url)) is None


def test_newest_events_that_were_cut_off_are_missing(redis_url: str, log: EventLog, database: Database) -> None:
    assert log.name == LOG
    rewrite(database, CUT_OFF)
    assert verify(database).ok, "the chain fits"
    found = finding(everything(database, redis_url))
    assert found is not None
    assert (found.position, found.kind) == (9, "missing")
    assert "redis keeps the head 10" in found.detail


def test_a_rewritten_archive_does_not_fit_the_head_in_redis(redis_url: str, log: EventLog, database: Database) -> None:
    rewrite(database, "UPDATE tickview.events SET recorded_at = recorded_at + '1 second' WHERE position = 4")
    assert verify(database).ok, "the chain fits"
    assert log.name == LOG
    found = finding(everything(database, redis_url))
    assert found is not None
    assert (found.position, found.kind) == (10, "changed")
    assert finding(everything(database, redis_url, ArchiveRange(1, 9))) is None
    assert finding(everything(database, redis_url, ArchiveRange(2, 10))) == found


@pytest.mark.parametrize("statements", [REMOVE_LOG, REMOVE_LOG[:1], REMOVE_LOG[1:]])
def test_a_removed_log_is_missing(redis_url: str, log: EventLog, database: Database, statements: list[str]) -> None:
    run(database, *statements)
    settings = Settings(redis_url=redis_url, postgres_dsn=database.dsn)
    for name in (None, log.name):
        [result] = [each for each in verify_everything(settings, database, name).logs if each.log == LOG]
        assert result.finding is not None
        assert result.finding.kind == "missing"


def test_an_archiver_keeps_the_former_head_if_the_archive_does_not_extend_it(
    redis_url: str, log: EventLog, database: Database
) -> None:
    head = kept_archived_head(log)
    rewrite(database, "UPDATE tickview.events SET state = '[]' WHERE position = 4")
    archive_more(log, database, 5)
    assert kept_archived_head(log) == head
    found = finding(everything(database, redis_url))
    assert found is not None
    assert (found.position, found.kind) == (10, "changed")


def test_an_archive_that_lost_its_end_catches_up_with_the_head_in_redis(
    redis_url: str, log: EventLog, database: Database
) -> None:
    head = kept_archived_head(log)
    assert head is not None
    rewrite(database, CUT_OFF)
    keeper = HeadKeeper(database, log)
    keeper.keep(ArchivedHead(8, bytes(32)))
    assert kept_archived_head(log) == head, "the archive is behind"
    archive_more(log, database, 1)
    kept = kept_archived_head(log)
    assert kept is not None
    assert kept.position == 11
    assert finding(everything(database, redis_url)) is None


def test_a_full_redis_keeps_the_former_head_until_it_has_room(redis: Redis, log: EventLog, database: Database) -> None:
    former = kept_archived_head(log)
    log.append([opaque_event()])
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), 100)
    archiver.step(0)
    keeper = HeadKeeper(database, log)
    redis.config_set("maxmemory", 1)
    try:
        keeper.keep(archiver.head)
    finally:
        redis.config_set("maxmemory", 0)
    assert kept_archived_head(log) == former
    keeper.keep(archiver.head)
    assert kept_archived_head(log) == archiver.head


def test_verification_without_redis_says_that_it_compared_no_heads(log: EventLog, database: Database) -> None:
    assert log.name == LOG
    [source] = everything(database, "redis://127.0.0.1:1").document()["heads"]
    assert (source["heads"], source["misfit"]) == (0, None)
    assert "Redis cannot be read" in source["note"]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """File of an Ed25519 key."""
    file = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(file)], check=True)
    return file


def test_a_verification_compares_the_chains_with_the_heads_in_a_file(
    redis_url: str, redis: Redis, log: EventLog, database: Database, key: Path, tmp_path: Path
) -> None:
    file = tmp_path / "heads.json"
    options: dict[str, Any] = {"audit_heads": str(file), "audit_key": key}
    redis.hset(log.keys.meta, "archived", "0")  # as if Redis had lost its heads
    notes = [source["note"] for source in everything(database, redis_url, **options).document()["heads"]]
    assert notes[0] == "no archiver has kept heads yet"
    assert "does not exist" in notes[1]
    publish_heads(database, str(file), key)
    assert check_signature(read_head_file(file), read_public_key(key)) == "valid"
    assert finding(everything(database, redis_url, **options)) is None
    rewrite(database, CUT_OFF)
    found = finding(everything(database, redis_url, **options))
    assert found is not None
    assert (found.position, found.kind) == (9, "missing")
    assert f"{file} keeps the head 10" in found.detail


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"signature": None}, "not signed"), ({"heads": []}, "forged"), ({"heads": 1}, "is not a head file")],
)
def test_a_changed_file_of_heads_fails_the_verification(
    redis_url: str, log: EventLog, database: Database, key: Path, change: dict[str, Any], reason: str
) -> None:
    file = key.with_name("heads.json")
    publish_heads(database, str(file), key)
    file.write_bytes(orjson.dumps({**orjson.loads(file.read_bytes()), **change}))
    verification = everything(database, redis_url, audit_heads=str(file), audit_key=key)
    assert not verification.ok
    assert all(each.finding is None for each in verification.logs)
    misfit = verification.heads[1].finding
    assert misfit is not None
    assert reason in misfit
    assert log.name == LOG


class _Receiver(BaseHTTPRequestHandler):
    """Stores the bodies of PUT requests, and refuses those to /full."""

    received: list[bytes] = []
    authorization: list[str | None] = []

    def do_PUT(self) -> None:
        """Receive a body."""
        self.authorization.append(self.headers["Authorization"])
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(507 if self.path.startswith("/full") else 201)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def receiver_url() -> Iterator[str]:
    """URL of a server that receives heads."""
    _Receiver.received.clear()
    with HTTPServer(("127.0.0.1", 0), _Receiver) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_signed_heads_are_sent_to_a_url(
    log: EventLog, database: Database, key: Path, tmp_path: Path, receiver_url: str
) -> None:
    assert log.name == LOG
    publish_heads(database, f"{receiver_url}/heads?signature=secret", key)
    [content] = _Receiver.received
    assert _Receiver.authorization[-1] == f"Basic {b64encode(b'user:secret').decode()}"
    file = tmp_path / "received.json"
    file.write_bytes(content)
    assert check_signature(read_head_file(file), read_public_key(key)) == "valid"
    assert read_published_heads(f"{receiver_url}/heads", key).heads == ()
    with pytest.raises(AuditError, match="answers 507") as refused:
        publish_heads(database, f"{receiver_url}/full?signature=secret", key)
    assert "secret" not in str(refused.value)
    with pytest.raises(AuditError, match="not written"):
        publish_heads(database, "http://127.0.0.1:1/heads", key)
    with pytest.raises(AuditError, match="not written"):
        publish_heads(database, "/nowhere/heads.json", key)
