"""The programs of docs/audit.md, run on a real archive: they verify the archive without TickView."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psycopg
import pytest
from redis import Redis

from infra.archive.verification.heads import read_private_key, sign, take_heads
from infra.postgres.database import Database
from tests.archiving import archive_to_end, archived_log
from tests.events import opaque_event

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"


def documented_program(language: str) -> str:
    """Return the only program in this language."""
    [match] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return str(match)


@pytest.fixture
def database(every_database: Database, redis: Redis) -> Database:
    """Archive of twenty events. The state of one event is not text."""
    log = archived_log(redis, every_database)
    log.append([opaque_event(f"symbol-Ä{number}") for number in range(19)])
    log.append([opaque_event()._replace(state=b"\x00\xff", origin="http")])
    archive_to_end(every_database, log)
    return every_database


def change_event_7(database: Database) -> None:
    with database.connection() as connection:
        connection.execute("UPDATE tickview.events SET source = 'nobody' WHERE position = 7")


def test_the_python_program_recomputes_the_hash_chain(database: Database) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", documented_program("python"), database.dsn, "market-0"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with database.connection() as connection:
        [[head]] = connection.execute("SELECT hash FROM tickview.logs")
    assert run().stdout.strip() == head.hex()
    change_event_7(database)
    result = run()
    assert (result.returncode, result.stderr.strip()) == (1, "event 7 does not fit")


def test_the_sql_program_recomputes_the_hash_chain(database: Database) -> None:
    def run() -> int | None:
        function, _, query = documented_program("sql").partition("\n\n")
        with psycopg.connect(database.dsn) as connection:
            connection.execute(function.encode())
            [[position]] = connection.execute(query.encode())
            connection.rollback()
        return position

    assert run() is None
    change_event_7(database)
    assert run() == 7


def test_the_openssl_commands_verify_a_signature(database: Database, tmp_path: Path) -> None:
    def run() -> int:
        return subprocess.run(
            ["bash", "-ec", documented_program("sh")], cwd=tmp_path, capture_output=True, check=False
        ).returncode

    key, file = tmp_path / "key.pem", tmp_path / "head.json"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    signed = sign(take_heads(database, datetime.now(UTC)), read_private_key(key)).document()
    file.write_bytes(orjson.dumps(signed, option=orjson.OPT_INDENT_2))
    assert run() == 0
    signed["heads"][0]["position"] -= 1
    file.write_bytes(orjson.dumps(signed))
    assert run() != 0
