"""The supervisor with real child processes: restarts, stops, log files, and the death of the supervisor."""

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

from infra.processes import disk
from infra.processes import supervisor as supervisor_module
from infra.processes.disk import LOG_BYTES
from infra.processes.errors import StartupError
from infra.processes.supervisor import Backoff, Program, Supervisor
from tests.processes.roles import wait_until

DEADLINE_SECONDS = 30
"""Seconds that a report or the end of a process may take on a slow machine."""

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
    """The reports of the supervisor, in order."""

    def __init__(self) -> None:
        self._queue: Queue[tuple[str, str]] = Queue()

    def __call__(self, name: str, description: str) -> None:
        self._queue.put((name, description))

    def next_with(self, words: str) -> str:
        """Return the next report that contains ``words``, and drop the reports before it."""
        while True:
            _, description = self._queue.get(timeout=DEADLINE_SECONDS)
            if words in description:
                return description


SHORT_BACKOFF = Backoff(initial=0.05, maximum=0.2)


@contextmanager
def running_supervisor(
    backoff: Backoff = SHORT_BACKOFF, stop_seconds: float = 9.0
) -> Iterator[tuple[Supervisor, Reports]]:
    reports = Reports()
    with Supervisor(reports, Event(), backoff, stop_seconds) as supervisor:
        yield supervisor, reports


def python(folder: Path, name: str, code: str, *arguments: str) -> Program:
    return Program(name, [sys.executable, "-c", code, *arguments], folder / "logs" / f"{name}.log")


def test_a_failed_program_is_restarted_with_growing_delays_and_its_reason_reported(tmp_path: Path) -> None:
    with running_supervisor() as (supervisor, reports):
        supervisor.start(python(tmp_path, "fails", "print('first'); print('it broke'); raise SystemExit(3)"))
        for delay in ("0.05", "0.1", "0.2", "0.2"):
            ended = reports.next_with("ended")
            assert ended == f"ended with exit code 3: it broke; starting it again in {delay} s"


def test_a_long_run_resets_the_delay(tmp_path: Path) -> None:
    with running_supervisor(Backoff(initial=0.05, maximum=10, reset_after=0)) as (supervisor, reports):
        supervisor.start(python(tmp_path, "fails", "raise SystemExit(1)"))
        for _ in range(4):
            assert reports.next_with("ended").endswith("in 0.05 s")


def test_a_killed_program_is_restarted(tmp_path: Path) -> None:
    with running_supervisor() as (supervisor, reports):
        supervisor.start(python(tmp_path, "sleeps", "import time; time.sleep(3600)"))
        first = int(reports.next_with("pid").split()[1])
        psutil.Process(first).kill()
        assert reports.next_with("ended").startswith("ended by SIGKILL")
        second = int(reports.next_with("pid").split()[1])
        assert second != first
        assert psutil.pid_exists(second)
    assert not psutil.pid_exists(second)


def test_a_report_quotes_the_last_line_of_the_ended_run_only(tmp_path: Path) -> None:
    prints_once = (
        "import pathlib, sys; marker = pathlib.Path(sys.argv[1])\n"
        "if not marker.exists(): marker.touch(); print('printed once')\n"
        "raise SystemExit(1)"
    )
    with running_supervisor() as (supervisor, reports):
        supervisor.start(python(tmp_path, "prints", prints_once, str(tmp_path / "marker")))
        assert "exit code 1: printed once;" in reports.next_with("ended")
        assert "exit code 1; starting" in reports.next_with("ended")


def test_processes_that_a_program_forked_end_with_the_program(tmp_path: Path) -> None:
    forks = "import subprocess; print(subprocess.Popen(['sleep', '3600']).pid, flush=True); raise SystemExit(1)"
    with running_supervisor(Backoff(initial=3600, maximum=3600)) as (supervisor, reports):
        supervisor.start(python(tmp_path, "forks", forks))
        forked = int(reports.next_with("ended").partition(": ")[2].partition(";")[0])
        assert_gone([forked])


def test_programs_stop_in_reverse_order(tmp_path: Path) -> None:
    stops = tmp_path / "stops"
    with running_supervisor() as (supervisor, _):
        for name in ("first", "second", "third"):
            program = python(tmp_path, name, RECORDS_ITS_STOP, name, str(stops))
            supervisor.start(program, lambda _, name=name: Path(f"{stops}.{name}").exists())
    assert stops.read_text().split() == ["third", "second", "first"]


@pytest.mark.timeout(20)
def test_a_stop_is_bounded_and_reaches_every_program_if_some_ignore_sigterm(tmp_path: Path) -> None:
    stops = tmp_path / "stops"
    programs = {"a": RECORDS_ITS_STOP, "b": IGNORES_SIGTERM, "c": RECORDS_ITS_STOP, "d": IGNORES_SIGTERM}
    pids = []
    with running_supervisor(stop_seconds=3.0) as (supervisor, reports):
        for name, code in programs.items():
            program = python(tmp_path, name, code, name, str(stops))
            supervisor.start(program, lambda _, name=name: Path(f"{stops}.{name}").exists())
            pids.append(int(reports.next_with("pid").split()[1]))
    assert stops.read_text().split() == ["c", "a"]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_stop_does_not_wait_for_the_restart_of_a_program(tmp_path: Path) -> None:
    with running_supervisor(Backoff(initial=3600, maximum=3600)) as (supervisor, reports):
        supervisor.start(python(tmp_path, "fails", "raise SystemExit(1)"))
        reports.next_with("starting it again in 3600 s")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([sys.executable, "-c", "print('no such table'); raise SystemExit(2)"], "exit code 2: no such table"),
        (
            [sys.executable, "-c", "print('╭─ Error ─╮\\n│ no such option │\\n╰─────────╯'); raise SystemExit(2)"],
            r"exit code 2: no such option \(its log",
        ),
        (["/no/such/program"], "cannot be started: .*No such file"),
    ],
)
def test_a_program_that_cannot_start_is_an_error_with_the_reason(tmp_path: Path, argv: list[str], reason: str) -> None:
    with running_supervisor() as (supervisor, _), pytest.raises(StartupError, match=reason):
        supervisor.start(Program("broken", argv, tmp_path / "broken.log"), lambda _: False)


def test_a_log_file_stays_small_while_its_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOG_BYTES", 10_000)
    monkeypatch.setattr(supervisor_module, "LOG_CHECK_SECONDS", 0.02)
    program = python(tmp_path, "prints", "import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.0005)")
    rotated = program.log.with_name("prints.log.1")
    with running_supervisor() as (supervisor, _):
        supervisor.start(program)
        for _ in range(3):
            wait_until(rotated.exists, "the log is rotated")
            wait_until(lambda: program.log.stat().st_size, "the process goes on writing")
            assert program.log.stat().st_size < 1_000_000
            rotated.unlink()


def test_the_report_of_an_end_names_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FULL_BYTES", 2**62)
    with running_supervisor() as (supervisor, reports):
        supervisor.start(python(tmp_path, "ends", "print('last words')"))
        assert f"last words: the disk of {tmp_path / 'logs'} is full" in reports.next_with("ended with exit code 0")


def test_a_large_log_file_is_renamed_at_the_start(tmp_path: Path) -> None:
    program = python(tmp_path, "prints", "print('new'); import time; time.sleep(3600)")
    program.log.parent.mkdir()
    with program.log.open("wb") as log:
        log.truncate(LOG_BYTES + 1)
    with running_supervisor() as (supervisor, _):
        supervisor.start(program)
    assert program.log.stat().st_size < 100
    assert program.log.with_name("prints.log.1").stat().st_size == LOG_BYTES + 1


def test_programs_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    lifeline = "from infra.processes import lifeline\nlifeline.GRACE_SECONDS = {}\nlifeline.stop_with_supervisor()\n"
    stops_in_order, is_killed = lifeline.format(5) + RECORDS_ITS_STOP, lifeline.format(0.5) + IGNORES_SIGTERM
    stops = tmp_path / "stops"
    supervisor_code = f"""
import sys, threading
from pathlib import Path
from infra.processes.supervisor import Program, Supervisor
with Supervisor(lambda name, report: print(report.split()[1], flush=True), threading.Event()) as supervisor:
    for name, code in (("a", {stops_in_order!r}), ("b", {is_killed!r})):
        argv = [sys.executable, "-c", code, name, {str(stops)!r}]
        program = Program(name, argv, Path({str(tmp_path)!r}) / name)
        supervisor.start(program, lambda _: Path({str(stops)!r} + "." + name).exists())
    threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", supervisor_code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout
        pids = [int(supervisor.stdout.readline()) for _ in range(2)]
        assert all(psutil.pid_exists(pid) for pid in pids)
        supervisor.send_signal(signal.SIGKILL)
    assert_gone(pids)
    assert stops.read_text().split() == ["a"]


def assert_gone(pids: list[int]) -> None:
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_SECONDS)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
