"""Output in encodings that lack characters of the data: tables contain escapes, and JSON stays UTF-8."""

import subprocess
import time

import orjson
import pytest
from redis import Redis

from domain.announcements import DeadLetter
from infra.processes.python import module_command
from infra.recording.dead_letters import DeadLetters
from tests.processes.roles import environment_of

REASON = "the symbol is Ä\N{CHART WITH UPWARDS TREND}"


@pytest.fixture(params=["ascii", "latin-1", "utf-8"])
def environment(request: pytest.FixtureRequest, redis: Redis, redis_url: str) -> dict[str, str]:
    """The environment of a command, with a dead letter whose reason is not ASCII."""
    letters = DeadLetters(redis, max_count=10, max_bytes=1_000_000, max_age=60)
    letters.store([DeadLetter("id", "channel", b"\xff", "invalid", REASON, time.time(), "http")])
    return {**environment_of(redis_url, {}), "PYTHONIOENCODING": request.param, "PYTHONUTF8": "0"}


def list_dead_letters(environment: dict[str, str], *options: str) -> bytes:
    command = module_command("infra.cli", "dead-letters", "list", *options)
    completed = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert (completed.returncode, completed.stderr) == (0, b"")
    return completed.stdout


def test_a_table_escapes_characters_that_its_encoding_lacks(environment: dict[str, str]) -> None:
    encoding = environment["PYTHONIOENCODING"]
    table = list_dead_letters(environment).decode(encoding)
    assert REASON.encode(encoding, "backslashreplace").decode(encoding) in table


def test_json_is_utf_8_in_every_encoding(environment: dict[str, str]) -> None:
    [letter] = orjson.loads(list_dead_letters(environment, "--json"))["dead_letters"]
    assert letter["reason"] == REASON
