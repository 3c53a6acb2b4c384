"""``tickview audit`` on an archive with real processes, and the scheduled verification of the archivers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import orjson
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis

from infra.archive.archiver import Archiver
from infra.archive.verification.verify import last_verification
from infra.postgres.database import Database
from tests.archiving import acquire_archiver_lease, archive_to_end, archived_log
from tests.events import new_events, opaque_event
from tests.integration.archive_support import detections
from tests.processes.roles import running_role, tickview, wait_until
from tests.row_history import fold_history

EVENTS = 20
VERIFY_EVERY = 1
CHANGE_7 = "UPDATE tickview.events SET state = '[]' WHERE position = 7"


@pytest.fixture
def archive(redis: Redis, database: Database) -> Database:
    """An archive of two logs with twenty events each."""
    for name in ("market-0", "users"):
        log = archived_log(redis, database, name)
        log.append([opaque_event() for _ in range(EVENTS)])
        assert archive_to_end(database, log) == EVENTS
    return database


def execute(database: Database, statement: str) -> None:
    with database.connection() as connection:
        connection.execute(statement.encode())


def audit(database: Database, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command of ``tickview audit``. The commands work without Redis."""
    return tickview("audit", *arguments, redis_url="redis://127.0.0.1:1", postgres_dsn=database.dsn, **settings)


def audit_json(database: Database, *arguments: str, exit_code: int = 0, **settings: Any) -> Any:
    """Run a command of ``tickview audit`` and return its JSON output."""
    completed = audit(database, *arguments, "--json", **settings)
    assert completed.returncode == exit_code, completed.stderr
    return orjson.loads(completed.stdout)


def recorded_verification(database: Database) -> dict[str, Any]:
    """Return the last verification in the archive."""
    verification = last_verification(database)
    assert verification is not None
    return verification


def test_verify_finds_a_changed_event_and_records_complete_verifications(archive: Database) -> None:
    result = audit_json(archive, "verify")
    assert (result["ok"], result["events"], len(result["logs"])) == (True, 2 * EVENTS, 2)
    assert recorded_verification(archive)["logs"] == result["logs"]
    execute(archive, CHANGE_7)
    result = audit_json(archive, "verify", "--log", "users", exit_code=3)
    assert result["logs"][0]["misfit"]["position"] == 7
    assert recorded_verification(archive)["ok"], "the verification of one log is not recorded"
    text = audit(archive, "verify")
    assert text.returncode == 3
    assert b"changed at 7" in text.stdout
    assert not recorded_verification(archive)["ok"]
    assert audit_json(archive, "verify", "--from", "9", "--to", "12")["events"] == 8
    empty = audit(archive, "verify", "--from", str(10 * EVENTS))
    assert (empty.returncode, b"no event in this range" in empty.stderr) == (1, True), empty


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["verify", "--from", "yesterday"], b"'yesterday' is neither a position nor a time"),
        (["verify", "--from", "9", "--to", "8"], b"before it begins"),
        (["verify", "--log", "market-9"], b"no log market-9. It has: market-0, users"),
        (["export", "--format", "jsonl", "--log", "market-9"], b"no log market-9"),
        (["export", "--format", "parquet"], b"--output"),
        (["export", "--format", "csv", "--output", "/nowhere/at/all"], b"/nowhere/at/all cannot be written"),
        (["head", "--sign"], b"TICKVIEW_AUDIT_KEY"),
        (["check", "/nowhere/head.json"], b"/nowhere/head.json cannot be read"),
    ],
)
def test_audit_refuses_invalid_arguments_in_one_line(archive: Database, arguments: list[str], reason: bytes) -> None:
    completed = audit(archive, *arguments)
    assert completed.returncode == 1
    assert reason in completed.stderr
    assert completed.stderr.count(b"\n") == 1


def test_audit_without_postgresql_names_the_setting() -> None:
    for settings in ({"postgres_dsn": "postgresql://127.0.0.1:1/none"}, {}):
        completed = tickview("audit", "verify", redis_url="redis://127.0.0.1:1", **settings)
        assert completed.returncode == 1
        assert b"TICKVIEW_POSTGRES_DSN" in completed.stderr
        assert b"Traceback" not in completed.stderr


def test_heads_are_signed_and_checked(archive: Database, tmp_path: Path) -> None:
    key, file = tmp_path / "key.pem", tmp_path / "head.json"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    signed = audit(archive, "head", "--sign", "--json", audit_key=key)
    assert signed.returncode == 0, signed.stderr
    file.write_bytes(signed.stdout)
    assert {head["position"] for head in orjson.loads(signed.stdout)["heads"]} == {EVENTS}
    result = audit_json(archive, "check", str(file), audit_key=key)
    assert (result["ok"], result["signature"]) == (True, "valid")
    result = audit_json(archive, "check", str(file))
    assert result["signature"] == "not checked: no key is set"
    text = audit(archive, "check", str(file), audit_key=key)
    assert b"today's history extends these heads" in text.stdout
    file.write_bytes(signed.stdout.replace(b'"position": 20', b'"position": 19'))
    result = audit_json(archive, "check", str(file), audit_key=key, exit_code=3)
    assert result["signature"] == "forged"
    for unsigned in ({"signature": None}, {"signature": None, "heads": []}, {"heads": []}):
        file.write_bytes(orjson.dumps({**orjson.loads(signed.stdout), **unsigned}))
        result = audit_json(archive, "check", str(file), audit_key=key, exit_code=3)
        assert result["signature"] == ("not signed" if "signature" in unsigned else "forged")
    assert [(row["log"], row["extends"]) for row in result["heads"]] == [("market-0", False), ("users", False)]
    file.write_bytes(audit(archive, "head", "--json").stdout)
    assert audit_json(archive, "check", str(file))["signature"] == "not signed"
    execute(archive, CHANGE_7)
    assert not audit_json(archive, "check", str(file), exit_code=3)["ok"]


def test_export_writes_to_standard_output_and_to_a_file(archive: Database, tmp_path: Path) -> None:
    piped = audit(archive, "export", "--format", "jsonl", "--from", "19")
    assert [orjson.loads(line)["position"] for line in piped.stdout.splitlines()] == [19, 20, 19, 20]
    file = tmp_path / "events.csv"
    written = audit(archive, "export", "--format", "csv", "--log", "users", "--output", str(file))
    assert (written.returncode, written.stdout) == (0, b"")
    assert len(file.read_text().splitlines()) == 1 + EVENTS
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


MEASURE_MEMORY = """
import resource, sys
from infra.cli import app
*arguments, small, large = sys.argv[1:]
for last in small, large:
    app([*arguments, "--to", last], standalone_mode=False)
    sys.stderr.write(f"\\npeak={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\\n")
"""
"""Program that exports a small and a large range, and writes the peak of its memory in kB after each of the two."""

SMALL, LARGE = 4_500, 22_500
"""Numbers of events of the two exports. Both are larger than the chunk of events that an export holds in memory."""


def test_export_of_five_times_as_many_events_takes_no_more_memory(
    redis: Redis, database: Database, tmp_path: Path
) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()._replace(state=os.urandom(1_000).hex().encode())])
    [event] = log.read(0, 1)
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), 1)
    for first in range(1, LARGE + 1, 2_500):
        archiver.archive([event._replace(position=n, version=n) for n in range(first, first + 2_500)])
    for output_format in ("jsonl", "csv", "parquet"):
        arguments = ["audit", "export", "--format", output_format, "--output", str(tmp_path / "out")]
        command = [sys.executable, "-c", MEASURE_MEMORY, *arguments, str(SMALL), str(LARGE)]
        environment = {**os.environ, "TICKVIEW_POSTGRES_DSN": database.dsn}
        completed = subprocess.run(command, env=environment, capture_output=True, timeout=100, check=True)
        small, large = (int(text.split()[0]) for text in completed.stderr.split(b"peak=")[1:])
        # The further events alone are 36 MB.
        assert large - small < 18_000, f"{output_format}: {small} kB for {SMALL} events, {large} kB for {LARGE} events"


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "archive.log").open("wb") as file:
        yield file


def verifications(database: Database) -> int:
    with database.connection() as connection:
        [[count]] = connection.execute("SELECT count(*) FROM tickview.verifications")
    return int(count)


def test_archiver_verifies_on_a_schedule_and_logs_the_changed_event(
    redis_url: str, archive: Database, log_file: IO[bytes], tmp_path: Path
) -> None:
    with running_role("archive", redis_url=redis_url, postgres_dsn=archive.dsn, verify_every=1, log=log_file):
        assert wait_until(lambda: last_verification(archive), "the first verification is recorded")["ok"]
        execute(archive, CHANGE_7)
        wait_until(lambda: not recorded_verification(archive)["ok"], "a verification has found the changed event")
        log = tmp_path / "archive.log"
        [line, *_] = wait_until(
            lambda: [line for line in log.read_bytes().splitlines() if b"does not fit" in line], "the error is logged"
        )
    entry = orjson.loads(line)
    assert (entry["level"], entry["log"], entry["position"], entry["kind"]) == ("error", "market-0", 7, "changed")


def test_two_archivers_verify_as_rarely_as_one(redis_url: str, archive: Database) -> None:
    settings = {"redis_url": redis_url, "postgres_dsn": archive.dsn, "verify_every": VERIFY_EVERY}
    with running_role("archive", **settings), running_role("archive", **settings):
        wait_until(lambda: verifications(archive) >= 3, "three verifications are recorded")
    with archive.connection() as connection:
        rows = connection.execute("SELECT started_at FROM tickview.verifications ORDER BY id").fetchall()
    starts = [start for (start,) in rows]
    assert all(later - earlier >= timedelta(seconds=VERIFY_EVERY) for earlier, later in pairwise(starts))


CUT_OFF = """
    DELETE FROM tickview.events WHERE log = 'market-0' AND position > 18;
    UPDATE tickview.segments SET position = 18 WHERE log = 'market-0';
    UPDATE tickview.logs SET hash = (SELECT hash FROM tickview.events WHERE log = 'market-0' AND position = 18)
    WHERE log = 'market-0'
"""


def test_archiver_keeps_heads_in_redis_and_in_a_file_and_verification_notices_a_cut_off_end(
    redis: Redis, redis_url: str, archive: Database, tmp_path: Path
) -> None:
    key, file = tmp_path / "key.pem", tmp_path / "heads.json"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    settings = {"postgres_dsn": archive.dsn, "audit_key": key, "audit_heads": file}
    execute(archive, "UPDATE tickview.segments SET leased_until = '-infinity'")
    with running_role("archive", redis_url=redis_url, verify_every=1, **settings):
        wait_until(file.exists, "signed heads are written to the file")
        wait_until(lambda: redis.hget("tickview:{market-0}:meta", "archived") != b"0", "Redis keeps the head")
    heads = file.read_bytes()
    assert audit_json(archive, "check", str(file), audit_key=key)["signature"] == "valid"
    execute(archive, CUT_OFF)
    assert audit_json(archive, "verify")["ok"], "the chain fits, and without Redis no head is known"
    for more in ({"redis_url": redis_url}, {"redis_url": "redis://127.0.0.1:1", "audit_key": key, "audit_heads": file}):
        completed = tickview("audit", "verify", "--json", postgres_dsn=archive.dsn, **more)
        assert completed.returncode == 3, completed.stderr
        [market] = [log for log in orjson.loads(completed.stdout)["logs"] if log["log"] == "market-0"]
        assert (market["misfit"]["position"], market["misfit"]["kind"]) == (19, "missing")
    before = verifications(archive)
    # Redis is emptied, so that the archiver does not archive the removed events again.
    redis.flushall()
    with running_role("archive", redis_url=redis_url, verify_every=1, **settings):
        wait_until(lambda: verifications(archive) > before + 1, "two more verifications are recorded")
    assert not recorded_verification(archive)["ok"]
    assert file.read_bytes() == heads, "the heads in the file stay as evidence"


@pytest.fixture
def history(redis: Redis, database: Database) -> Database:
    """An archive of eight events of four detections, with their history."""
    log = archived_log(redis, database)
    log.append(new_events(detections(4)))
    archive_to_end(database, log)
    fold_history(database, log.name)
    return database


CHANGE_HISTORY = "UPDATE tickview.pattern_history SET number_confidence = 0.99 WHERE number_confidence = 0.75"


def test_verify_finds_a_changed_row_of_a_history_and_a_rebuild_restores_it(history: Database) -> None:
    [result] = audit_json(history, "verify")["histories"]
    assert (result["history"], result["events"], result["misfit"]) == ("pattern_history", 8, None)
    execute(history, CHANGE_HISTORY)
    [changed] = audit_json(history, "verify", "--from", "2", "--to", "2", exit_code=3)["histories"]
    assert (changed["misfit"]["kind"], changed["misfit"]["timeline"]) == ("changed", "recorded")
    text = audit(history, "verify")
    assert text.returncode == 3
    assert b"tickview audit rebuild pattern_history" in text.stdout
    assert not recorded_verification(history)["ok"]
    assert audit_json(history, "rebuild", "pattern_history")["removed"] == result["rows"]
    fold_history(history, "market-0")
    assert audit_json(history, "verify")["histories"] == [result]
    unknown = audit(history, "rebuild", "no_history")
    assert (unknown.returncode, b"pattern_history" in unknown.stderr) == (1, True)


def test_archiver_verifies_histories_on_a_schedule(
    redis_url: str, history: Database, log_file: IO[bytes], tmp_path: Path
) -> None:
    execute(history, CHANGE_HISTORY)
    with running_role("archive", redis_url=redis_url, postgres_dsn=history.dsn, verify_every=1, log=log_file):
        log = tmp_path / "archive.log"
        [line, *_] = wait_until(
            lambda: [line for line in log.read_bytes().splitlines() if b"does not follow" in line],
            "the error is logged",
        )
    entry = orjson.loads(line)
    assert (entry["level"], entry["history"], entry["kind"]) == ("error", "pattern_history", "changed")
    assert not recorded_verification(history)["ok"]


@pytest.fixture
def auditor(archive: Database) -> Iterator[str]:
    """The DSN of a database user that may only read."""
    name = f"auditor_{token_hex(6)}"
    execute(archive, f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA tickview TO {name}")
    execute(archive, f"GRANT SELECT ON ALL TABLES IN SCHEMA tickview TO {name}")
    parameters = conninfo_to_dict(archive.dsn)
    yield make_conninfo(**{**parameters, "user": name})
    execute(archive, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_auditor_needs_only_the_right_to_read(archive: Database, auditor: str, tmp_path: Path) -> None:
    read_only = Database(auditor)
    assert audit_json(read_only, "verify")["ok"]
    assert last_verification(archive) is None
    heads = audit(read_only, "head", "--json")
    assert heads.returncode == 0
    (tmp_path / "head.json").write_bytes(heads.stdout)
    assert audit(read_only, "check", str(tmp_path / "head.json")).returncode == 0
    assert len(audit(read_only, "export", "--format", "jsonl").stdout.splitlines()) == 2 * EVENTS
