"""The start of commands: the modules that each one imports, their summaries, and the garbage collector.

One process forks a child for each command after the imports that all of them have in common.
"""

import gc
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.cli.commands import COMMANDS
from infra.processes.memory import permanent_objects

WEB = {"falcon", "numpy", "gunicorn", "uvicorn", "prometheus_client", "socketio"}
"""The libraries of an API process."""

UNWANTED: Mapping[str, set[str]] = {
    "": {"redis", "psycopg", "pydantic", "structlog", "infra.settings", *WEB},
    **dict.fromkeys(("up", "record", "project", "archive", "status", "query", "publish", "token"), WEB),
    "config": {*WEB, "infra.composition"},
    "alert": WEB - {"falcon", "numpy"},
    "serve": {"numpy", "prometheus_client", "socketio", "httpcore", "jwt", "infra.archive.verification"},
}
"""Command -> packages that it must not import. "" is ``tickview --help``. ``serve`` imports the rest of the API later,
after it has set the folder of the metrics."""

REPORT = f"""
import json, os, sys
import infra.cli

def report(name, help=None):
    print(json.dumps({{"command": name, "modules": list(sys.modules), "help": help}}), flush=True)

def fork(*names):
    if os.fork() == 0:
        for name in names:
            report(name, infra.cli.load_command(name).help)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0

report("")
for name in ("up", "config"):
    fork(name)
import infra.composition
for name in {[name for name in UNWANTED if name not in ("", "up", "config")]}:
    fork(name)
fork(*{[name for name in COMMANDS if name not in UNWANTED]})
"""
"""Reports the modules of each command. After the first of the last ones, they include those of the commands before."""


@pytest.fixture(scope="module")
def started() -> Mapping[str, Any]:
    """Return the modules and the help text of each command."""
    output = subprocess.run([sys.executable, "-P", "-c", REPORT], capture_output=True, check=True).stdout
    reports = map(orjson.loads, output.splitlines())
    return {each["command"]: each for each in reports}


@pytest.mark.parametrize("command", UNWANTED)
def test_a_command_imports_no_library_that_it_does_not_need(command: str, started: Mapping[str, Any]) -> None:
    unwanted = UNWANTED[command] | {"infra.bench"}
    assert unwanted.intersection(started[command]["modules"]) == set()


def test_the_table_of_commands_has_the_summaries_of_the_help_texts(started: Mapping[str, Any]) -> None:
    summaries = {name: " ".join(started[name]["help"].split("\n\n")[0].split()) for name in COMMANDS}
    assert {name: entry.summary for name, entry in COMMANDS.items()} == summaries


def test_a_mistyped_command_is_answered_with_the_commands_of_similar_names() -> None:
    result = CliRunner().invoke(app, ["projct"])
    assert result.exit_code == 2
    assert "Did you mean 'project', 'projections'?" in result.output


def test_the_garbage_collector_ignores_the_objects_of_imported_modules() -> None:
    before = gc.get_freeze_count()
    try:
        with permanent_objects():
            assert not gc.isenabled()
            created = [[number] for number in range(1_000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() > before + len(created)
    finally:
        gc.unfreeze()
