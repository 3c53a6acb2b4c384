"""``tickview up`` as people run it: one command, all roles, one clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Timer

import psutil
import pytest

from infra.embedded import find_servers
from tests.processes.roles import wait_until
from tests.servers import free_port

ROLES = ("archive", "record", "project", "serve")
PATTERN = {
    "event_id": "up-test-1",
    "event_type": "pattern_detected",
    "timestamp": 1_790_000_000.0,
    "data": {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.9, "expires_at": 4_000_000_000.0},
}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="tickview-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Up:
    """A running ``tickview up``."""

    def __init__(self, process: subprocess.Popen[str], data: Path, port: int) -> None:
        self.process = process
        self.data = data
        self.port = port
        self.lines: list[str] = []

    def read_until(self, words: str) -> str:
        """The next line that contains ``words``."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"ended without saying {words!r}: {self.lines}\n{self.logs()}")

    def logs(self) -> str:
        """The end of every log."""
        return "\n".join(f"{log.name}: {log.read_text()[-2_000:]}" for log in sorted(self.data.glob("logs/*.log")))

    def get(self, path: str) -> tuple[int, bytes]:
        return self._ask("GET", path, None)

    def post(self, path: str, body: object) -> tuple[int, bytes]:
        return self._ask("POST", path, json.dumps(body))

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def processes(self) -> dict[int, psutil.Process]:
        """Everything that it has started, and what those have started."""
        return {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}


def command(data: Path, port: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "infra.cli", "up", "--data", str(data), "--port", str(port), *more]


@contextmanager
def running(data: Path, port: int, *more: str) -> Iterator[Up]:
    """``tickview up``, once its API answers; killed if the test does not end it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TICKVIEW_")}
    process = subprocess.Popen(
        command(data, port, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    # A hung start must end the reading of its output; the output ends with the process.
    watchdog = Timer(60, process.terminate)
    watchdog.start()
    started: dict[int, psutil.Process] = {}
    try:
        up = Up(process, data, port)
        up.read_until("the API answers at")
        watchdog.cancel()
        started = up.processes()
        yield up
    finally:
        watchdog.cancel()
        process.terminate()
        process.communicate(timeout=30)
        for child in filter(psutil.Process.is_running, started.values()):
            child.kill()


def assert_all_end(processes: dict[int, psutil.Process], seconds: float) -> None:
    _, alive = psutil.wait_procs(list(processes.values()), timeout=seconds)
    assert [process.cmdline() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_starts_everything_and_ends_all_of_it_in_time(data: Path) -> None:
    with running(data, free_port()) as up:
        assert up.get("/api/health")[0] == 200
        names = [line.split()[0] for line in up.lines if "pid" in line]
        assert sorted(names[:2]) == ["postgres", "valkey"]
        assert tuple(names[2:]) == ROLES
        servers = find_servers(data)
        assert servers is not None
        assert servers.api_url == f"http://127.0.0.1:{up.port}"
        processes = up.processes()
        assert len(processes) >= len(names)
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(timeout=10) == 0
        assert_all_end(processes, seconds=0)
    assert find_servers(data) is None


def test_the_demo_brings_its_catalogue(data: Path) -> None:
    with running(data, free_port(), "--demo") as up:
        wait_until(lambda: count_at(up, "/api/users/universe") == 2, "the universes are there")
        wait_until(lambda: count_at(up, "/api/symbols") == 53, "the symbols are there")
        [apple, *_] = json.loads(up.get("/api/symbols?search=AAPL&limit=1")[1])["symbols"]
        assert (apple["name"], apple["sector"]) == ("Apple Inc.", "Technology")
        processes = up.processes()
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(timeout=10) == 0
        assert_all_end(processes, seconds=0)


def count_at(up: Up, path: str) -> int | None:
    """How many are told of there."""
    count: int | None = json.loads(up.get(path)[1]).get("count")
    return count


def test_ctrl_c_in_a_terminal_ends_it_in_order(data: Path) -> None:
    with running(data, free_port()) as up:
        processes = up.processes()
        os.killpg(up.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
        assert up.process.wait(timeout=10) == 0
        assert_all_end(processes, seconds=0)
    assert "Traceback" not in up.logs()


def test_goes_on_where_it_stopped(data: Path) -> None:
    port = free_port()
    message = {"channel": "tickstock.events.patterns", "payload": PATTERN}
    for _ in range(2):
        with running(data, port) as up:
            status, body = up.post("/api/events", message)
            assert status in (200, 201, 202), body
            answer = wait_until(lambda: scan_with_rows(up), "the scan has a row")
            assert answer["pagination"]["total"] == 1
            assert answer["patterns"][0]["symbol"] == "AAPL"
            up.process.send_signal(signal.SIGTERM)
            assert up.process.wait(timeout=10) == 0


def scan_with_rows(up: Up) -> dict | None:
    """The scan, if it has a row."""
    status, body = up.get("/api/patterns/scan")
    answer = json.loads(body)
    return answer if status == 200 and answer["patterns"] else None


def test_a_role_that_is_killed_is_started_again(data: Path) -> None:
    with running(data, free_port()) as up:
        pids = {line.split()[0]: int(line.split()[2]) for line in up.lines if "pid" in line}
        for role in ("project", "valkey"):
            os.kill(pids[role], signal.SIGKILL)
            assert "ended by SIGKILL" in up.read_until(f"{role:<9}")
            assert int(up.read_until(f"{role:<9}pid").split()[2]) != pids[role]


def test_its_processes_end_when_it_is_killed_and_the_next_start_copes(data: Path) -> None:
    port = free_port()
    with running(data, port) as up:
        roles = {pid: process for pid, process in up.processes().items() if "python" in process.name()}
        assert len(roles) >= len(ROLES)
        up.process.kill()
        assert_all_end(roles, seconds=20)
        assert find_servers(data) is None
        with running(data, port) as next_up:
            assert next_up.get("/api/health")[0] == 200


def test_a_second_one_on_the_same_folder_is_refused(data: Path) -> None:
    with running(data, free_port()) as up:
        second = subprocess.run(command(data, free_port()), capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert len(second.stderr.splitlines()) == 1
        assert f"in use by process {up.process.pid}" in second.stderr


def test_a_port_that_is_taken_is_refused_before_anything_starts(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = subprocess.run(command(data, port), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "--port" in refused.stderr
    assert not (data / "valkey").exists()
