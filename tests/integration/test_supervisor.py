"""The supervisor, with real child processes: restarts, order and bound of stopping, and what a killed one leaves."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Event

import psutil
import pytest

from infra.processes.errors import StartupError
from infra.processes.supervisor import LOG_BYTES, Backoff, Program, Supervisor

SECONDS = 30
"""Patience with a slow machine; nothing here takes as long."""

RECORDS_ITS_STOP = """
import pathlib, signal, sys, time
def stop(*_):
    with open(sys.argv[2], "a") as file:
        file.write(sys.argv[1] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[2] + "." + sys.argv[1]).touch()
time.sleep(3600)
"""
IGNORES_SIGTERM = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[2] + "." + sys.argv[1]).touch()
time.sleep(3600)
"""


class Reports:
    """What the supervisor has said, in order."""

    def __init__(self) -> None:
        self._queue: Queue[tuple[str, str]] = Queue()

    def __call__(self, name: str, what: str) -> None:
        self._queue.put((name, what))

    def next_about(self, words: str) -> str:
        """The next report that contains ``words``; the ones before it are dropped."""
        while True:
            _, what = self._queue.get(timeout=SECONDS)
            if words in what:
                return what


QUICK = Backoff(initial=0.05, maximum=0.2)


@contextmanager
def supervising(backoff: Backoff = QUICK, stop_seconds: float = 9.0) -> Iterator[tuple[Supervisor, Reports]]:
    reports = Reports()
    with Supervisor(reports, Event(), backoff, stop_seconds) as supervisor:
        yield supervisor, reports


def python(folder: Path, name: str, code: str, *arguments: str) -> Program:
    return Program(name, [sys.executable, "-c", code, *arguments], folder / "logs" / f"{name}.log")


def test_restarts_what_dies_with_growing_delays_and_says_why(tmp_path: Path) -> None:
    with supervising() as (supervisor, reports):
        supervisor.start(python(tmp_path, "fails", "print('one'); print('it broke'); raise SystemExit(3)"))
        for delay in ("0.05", "0.1", "0.2", "0.2"):
            ended = reports.next_about("ended")
            assert ended == f"ended with exit code 3: it broke; starting it again in {delay} s"


def test_a_long_enough_run_starts_the_delays_anew(tmp_path: Path) -> None:
    with supervising(Backoff(initial=0.05, maximum=10, reset_after=0)) as (supervisor, reports):
        supervisor.start(python(tmp_path, "fails", "raise SystemExit(1)"))
        for _ in range(4):
            assert reports.next_about("ended").endswith("in 0.05 s")


def test_restarts_what_was_killed(tmp_path: Path) -> None:
    with supervising() as (supervisor, reports):
        supervisor.start(python(tmp_path, "sleeps", "import time; time.sleep(3600)"))
        first = int(reports.next_about("pid").split()[1])
        psutil.Process(first).kill()
        assert reports.next_about("ended").startswith("ended by SIGKILL")
        second = int(reports.next_about("pid").split()[1])
        assert second != first
        assert psutil.pid_exists(second)
    assert not psutil.pid_exists(second)


def test_the_last_line_is_that_of_the_run_that_ended(tmp_path: Path) -> None:
    speaks_once = (
        "import pathlib, sys; said = pathlib.Path(sys.argv[1])\n"
        "if not said.exists(): said.touch(); print('said once')\n"
        "raise SystemExit(1)"
    )
    with supervising() as (supervisor, reports):
        supervisor.start(python(tmp_path, "speaks", speaks_once, str(tmp_path / "said")))
        assert "exit code 1: said once;" in reports.next_about("ended")
        assert "exit code 1; starting" in reports.next_about("ended")


def test_what_a_process_has_forked_ends_with_it(tmp_path: Path) -> None:
    forks = "import subprocess; print(subprocess.Popen(['sleep', '3600']).pid, flush=True); raise SystemExit(1)"
    with supervising(Backoff(initial=3600, maximum=3600)) as (supervisor, reports):
        supervisor.start(python(tmp_path, "forks", forks))
        forked = int(reports.next_about("ended").partition(": ")[2].partition(";")[0])
        assert_gone([forked])


def test_stops_in_reverse_order(tmp_path: Path) -> None:
    stops = tmp_path / "stops"
    with supervising() as (supervisor, _):
        for name in ("first", "second", "third"):
            program = python(tmp_path, name, RECORDS_ITS_STOP, name, str(stops))
            supervisor.start(program, lambda _, name=name: Path(f"{stops}.{name}").exists())
    assert stops.read_text().split() == ["third", "second", "first"]


@pytest.mark.timeout(20)
def test_stopping_is_bounded_and_reaches_all_even_if_some_ignore_it(tmp_path: Path) -> None:
    stops = tmp_path / "stops"
    programs = {"a": RECORDS_ITS_STOP, "b": IGNORES_SIGTERM, "c": RECORDS_ITS_STOP, "d": IGNORES_SIGTERM}
    pids = []
    with supervising(stop_seconds=4.0) as (supervisor, reports):
        for name, code in programs.items():
            program = python(tmp_path, name, code, name, str(stops))
            supervisor.start(program, lambda _, name=name: Path(f"{stops}.{name}").exists())
            pids.append(int(reports.next_about("pid").split()[1]))
    assert stops.read_text().split() == ["c", "a"]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_stops_at_once_while_a_program_waits_to_be_restarted(tmp_path: Path) -> None:
    with supervising(Backoff(initial=3600, maximum=3600)) as (supervisor, reports):
        supervisor.start(python(tmp_path, "fails", "raise SystemExit(1)"))
        reports.next_about("starting it again in 3600 s")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([sys.executable, "-c", "print('no such table'); raise SystemExit(2)"], "exit code 2: no such table"),
        (["/no/such/program"], "cannot be started: .*No such file"),
    ],
)
def test_what_cannot_start_is_an_error_with_the_reason(tmp_path: Path, argv: list[str], reason: str) -> None:
    with supervising() as (supervisor, _), pytest.raises(StartupError, match=reason):
        supervisor.start(Program("broken", argv, tmp_path / "broken.log"), lambda _: False)


def test_a_large_log_is_set_aside_at_start(tmp_path: Path) -> None:
    program = python(tmp_path, "speaks", "print('new'); import time; time.sleep(3600)")
    program.log.parent.mkdir()
    with program.log.open("wb") as log:
        log.truncate(LOG_BYTES + 1)
    with supervising() as (supervisor, _):
        supervisor.start(program)
    assert program.log.stat().st_size < 100
    assert program.log.with_name("speaks.log.1").stat().st_size == LOG_BYTES + 1


def test_roles_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    follows = "from infra.processes.lifeline import stop_with_supervisor\nstop_with_supervisor()\n"
    stops = tmp_path / "stops"
    supervises = f"""
import sys, threading
from pathlib import Path
from infra.processes.supervisor import Program, Supervisor
with Supervisor(lambda name, what: print(what.split()[1], flush=True), threading.Event()) as supervisor:
    for name, code in (("a", {follows + RECORDS_ITS_STOP!r}), ("b", {follows + IGNORES_SIGTERM!r})):
        argv = [sys.executable, "-c", code, name, {str(stops)!r}]
        program = Program(name, argv, Path({str(tmp_path)!r}) / name)
        supervisor.start(program, lambda _: Path({str(stops)!r} + "." + name).exists())
    threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", supervises], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout
        pids = [int(supervisor.stdout.readline()) for _ in range(2)]
        assert all(psutil.pid_exists(pid) for pid in pids)
        supervisor.send_signal(signal.SIGKILL)
    assert_gone(pids)
    assert stops.read_text().split() == ["a"]


def assert_gone(pids: list[int]) -> None:
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=SECONDS)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
