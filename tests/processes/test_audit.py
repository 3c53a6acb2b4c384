"""``tickview audit`` as an auditor runs it, and verification on a schedule."""

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
from tests.events import opaque_event
from tests.processes.roles import running_role, tickview, wait_until

EVENTS = 20
CHANGE_7 = "UPDATE tickview.events SET state = '[]' WHERE position = 7"


@pytest.fixture
def archive(redis: Redis, database: Database) -> Database:
    """An archive of two logs of twenty events."""
    for name in ("market-0", "users"):
        log = archived_log(redis, database, name)
        log.append([opaque_event() for _ in range(EVENTS)])
        assert archive_to_end(database, log) == EVENTS
    return database


def run(database: Database, statement: str) -> None:
    with database.connection() as connection:
        connection.execute(statement.encode())


def audit(database: Database, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    # Nothing of the audit needs Redis.
    return tickview("audit", *arguments, redis_url="redis://127.0.0.1:1", postgres_dsn=database.dsn, **settings)


def answer(done: subprocess.CompletedProcess[bytes], exit_code: int = 0) -> Any:
    assert done.returncode == exit_code, done.stderr
    return orjson.loads(done.stdout)


def test_verify_tells_programs_and_people(archive: Database) -> None:
    told = answer(audit(archive, "verify", "--json"))
    assert (told["ok"], told["events"], len(told["logs"])) == (True, 2 * EVENTS, 2)
    recorded = last_verification(archive)
    assert recorded is not None
    assert recorded["logs"] == told["logs"]
    run(archive, CHANGE_7)
    told = answer(audit(archive, "verify", "--log", "users", "--json"), 3)
    assert told["logs"][0]["misfit"]["position"] == 7
    recorded = last_verification(archive)
    assert recorded is not None
    assert recorded["ok"], "a part of the archive stands for the whole"
    people = audit(archive, "verify")
    assert people.returncode == 3
    assert b"changed at 7" in people.stdout
    recorded = last_verification(archive)
    assert recorded is not None
    assert not recorded["ok"]
    assert answer(audit(archive, "verify", "--from", "9", "--to", "12", "--json"))["events"] == 8


@pytest.mark.parametrize(
    ("arguments", "why"),
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
def test_what_cannot_be_done_is_said_in_one_line(archive: Database, arguments: list[str], why: bytes) -> None:
    done = audit(archive, *arguments)
    assert done.returncode == 1
    assert why in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_without_postgresql_it_says_so_in_one_line() -> None:
    for settings in ({"postgres_dsn": "postgresql://127.0.0.1:1/none"}, {}):
        done = tickview("audit", "verify", redis_url="redis://127.0.0.1:1", **settings)
        assert done.returncode == 1
        assert b"TICKVIEW_POSTGRES_DSN" in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_head_is_taken_signed_and_checked(archive: Database, tmp_path: Path) -> None:
    key, file = tmp_path / "key.pem", tmp_path / "head.json"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    taken = audit(archive, "head", "--sign", "--json", audit_key=key)
    file.write_bytes(taken.stdout)
    assert {head["position"] for head in answer(taken)["heads"]} == {EVENTS}
    told = answer(audit(archive, "check", str(file), "--json", audit_key=key))
    assert (told["ok"], told["signature"]) == (True, "valid")
    told = answer(audit(archive, "check", str(file), "--json"))
    assert told["signature"] == "not checked: no key is set"
    people = audit(archive, "check", str(file), audit_key=key)
    assert b"today's history extends these heads" in people.stdout
    file.write_bytes(taken.stdout.replace(b'"position": 20', b'"position": 19'))
    told = answer(audit(archive, "check", str(file), "--json", audit_key=key), 3)
    assert told["signature"] == "forged"
    file.write_bytes(audit(archive, "head", "--json").stdout)
    told = answer(audit(archive, "check", str(file), "--json", audit_key=key))
    assert told["signature"] == "not signed"
    run(archive, CHANGE_7)
    assert not answer(audit(archive, "check", str(file), "--json"), 3)["ok"]


def test_export_writes_to_standard_output_and_to_a_file(archive: Database, tmp_path: Path) -> None:
    piped = audit(archive, "export", "--format", "jsonl", "--from", "19")
    assert [orjson.loads(line)["position"] for line in piped.stdout.splitlines()] == [19, 20, 19, 20]
    file = tmp_path / "events.csv"
    written = audit(archive, "export", "--format", "csv", "--log", "users", "--output", str(file))
    assert (written.returncode, written.stdout) == (0, b"")
    assert len(file.read_text().splitlines()) == 1 + EVENTS
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


MEASURED = """
import resource, sys
from infra.cli import app
app(sys.argv[1:], standalone_mode=False)
sys.stderr.write(f"\\npeak={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")
"""


def test_an_export_takes_no_more_memory_for_five_times_as_much(
    redis: Redis, database: Database, tmp_path: Path
) -> None:
    log = archived_log(redis, database)
    log.append([opaque_event()._replace(state=os.urandom(3_000).hex().encode())])
    [first] = log.read(0, 1)
    archiver = Archiver(database, log, acquire_archiver_lease(database, log.name), 1)
    for begin in range(1, 25_001, 2_500):
        archiver.archive([first._replace(position=n, version=n) for n in range(begin, begin + 2_500)])

    def peak(form: str, last: int) -> int:
        arguments = ["audit", "export", "--format", form, "--to", str(last), "--output", str(tmp_path / "out")]
        environment = {**os.environ, "TICKVIEW_POSTGRES_DSN": database.dsn}
        command = [sys.executable, "-c", MEASURED, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=100, check=True)
        return int(done.stderr.rpartition(b"=")[2])

    for form in ("jsonl", "csv", "parquet"):
        small, large = peak(form, 5_000), peak(form, 25_000)
        # The events alone are 150 MB.
        assert large - small < 60_000, f"{form}: {small} kB for 5,000 events, {large} kB for 25,000"


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "archive.log").open("wb") as file:
        yield file


def verifications(database: Database) -> int:
    with database.connection() as connection:
        [[count]] = connection.execute("SELECT count(*) FROM tickview.verifications")
    return int(count)


def test_the_archivers_verify_on_a_schedule_and_say_what_does_not_fit(
    redis_url: str, archive: Database, log_file: IO[bytes], tmp_path: Path
) -> None:
    def told() -> dict[str, Any] | None:
        return last_verification(archive)

    with running_role("archive", redis_url=redis_url, postgres_dsn=archive.dsn, verify_every=1, log=log_file):
        assert wait_until(told, "a verification")["ok"]
        run(archive, CHANGE_7)
        wait_until(lambda: not told()["ok"], "a verification that finds it")  # type: ignore[index]
        said = tmp_path / "archive.log"
        line = wait_until(
            lambda: [line for line in said.read_bytes().splitlines() if b"does not fit" in line], "the error is logged"
        )[0]
    entry = orjson.loads(line)
    assert (entry["level"], entry["log"], entry["position"], entry["kind"]) == ("error", "market-0", 7, "changed")


def test_several_archivers_verify_no_more_often_than_one(redis_url: str, archive: Database) -> None:
    settings = {"redis_url": redis_url, "postgres_dsn": archive.dsn, "verify_every": 2}
    with running_role("archive", **settings), running_role("archive", **settings):
        wait_until(lambda: verifications(archive) >= 3, "three verifications")
    with archive.connection() as connection:
        began = [
            moment for (moment,) in connection.execute("SELECT started_at FROM tickview.verifications ORDER BY id")
        ]
    assert all(later - earlier >= timedelta(seconds=2) for earlier, later in pairwise(began))


@pytest.fixture
def auditor(archive: Database) -> Iterator[str]:
    """The DSN of a role that may only read."""
    name = f"auditor_{token_hex(6)}"
    run(archive, f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA tickview TO {name}")
    run(archive, f"GRANT SELECT ON ALL TABLES IN SCHEMA tickview TO {name}")
    parameters = conninfo_to_dict(archive.dsn)
    yield make_conninfo(**{**parameters, "user": name})
    run(archive, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_an_auditor_needs_to_read_alone(archive: Database, auditor: str, tmp_path: Path) -> None:
    reading = Database(auditor)
    assert answer(audit(reading, "verify", "--json"))["ok"]
    assert last_verification(archive) is None
    taken = audit(reading, "head", "--json")
    assert taken.returncode == 0
    (tmp_path / "head.json").write_bytes(taken.stdout)
    assert audit(reading, "check", str(tmp_path / "head.json")).returncode == 0
    assert len(audit(reading, "export", "--format", "jsonl").stdout.splitlines()) == 2 * EVENTS
