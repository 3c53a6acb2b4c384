"""``tickview up`` as a real command: its start, the restart of roles, its end by signals, and its refusals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import psutil
import pytest

from infra.embedded import find_servers
from tests.processes.roles import wait_until
from tests.servers import world_readable_folder
from tests.tcp_ports import free_port

ROLES = ("archive", "record", "project", "alert", "serve")
PATTERN = {
    "event_id": "up-test-1",
    "event_type": "pattern_detected",
    "timestamp": time.time(),
    "data": {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.9, "expires_at": time.time() + 86_400},
}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def data() -> Iterator[Path]:
    with world_readable_folder() as folder:
        yield folder


class Up:
    """A ``tickview up`` that runs, with its output and its API."""

    def __init__(self, process: subprocess.Popen[str], data: Path, port: int) -> None:
        self.process = process
        self.data = data
        self.port = port
        self.lines: list[str] = []

    def read_until(self, words: str) -> str:
        """Read the output until a line contains ``words``. Return the line."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"the output ended without {words!r}: {self.lines}\n{self.logs()}")

    def logs(self) -> str:
        """Return the end of every log."""
        return "\n".join(f"{log.name}: {log.read_text()[-2_000:]}" for log in sorted(self.data.glob("logs/*.log")))

    def get(self, path: str) -> tuple[int, bytes]:
        return self._request("GET", path, None)

    def post(self, path: str, body: object) -> tuple[int, bytes]:
        return self._request("POST", path, json.dumps(body))

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def processes(self) -> dict[int, psutil.Process]:
        """Return the processes that ``tickview up`` has started, directly or indirectly."""
        return {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}


def command(data: Path, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "infra.cli", "up", "--data", str(data), "--port", str(port), *options]


@contextmanager
def running_up(data: Path, port: int, *options: str, ready: str = "the API answers at") -> Iterator[Up]:
    """Run ``tickview up`` and yield it when it prints ``ready``. Stop it and its processes if the test does not."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TICKVIEW_")}
    process = subprocess.Popen(
        command(data, port, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    # The test reads the output until the process ends, so a start that hangs must be terminated.
    watchdog = Timer(60, process.terminate)
    watchdog.start()
    started: dict[int, psutil.Process] = {}
    try:
        up = Up(process, data, port)
        up.read_until(ready)
        watchdog.cancel()
        started = up.processes()
        yield up
    finally:
        watchdog.cancel()
        process.terminate()
        process.communicate(timeout=30)
        for child in filter(psutil.Process.is_running, started.values()):
            child.kill()


@pytest.fixture(scope="module")
def shared_up() -> Iterator[Up]:
    """A running ``tickview up`` for tests that do not end it."""
    with world_readable_folder() as folder, running_up(folder, free_port()) as up:
        yield up


def assert_all_end(processes: dict[int, psutil.Process], seconds: float) -> None:
    _, alive = psutil.wait_procs(list(processes.values()), timeout=seconds)
    assert [process.cmdline() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_up_starts_servers_and_roles_and_ends_them_on_sigterm(data: Path) -> None:
    with running_up(data, free_port()) as up:
        wait_until(lambda: up.get("/api/health")[0] == 200, "the roles work")
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


def test_up_with_demo_serves_the_catalogue_of_the_demo(data: Path) -> None:
    with running_up(data, free_port(), "--demo") as up:
        wait_until(lambda: count_at(up, "/api/users/universe") == 2, "the API has the universes")
        wait_until(lambda: count_at(up, "/api/symbols") == 53, "the API has the symbols")
        # Another API process may still load the symbols.
        [apple] = wait_until(lambda: symbols_of(up, "search=AAPL&limit=1"), "every API process has the symbols")
        assert (apple["name"], apple["sector"]) == ("Apple Inc.", "Technology")
        processes = up.processes()
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(timeout=10) == 0
        assert_all_end(processes, seconds=0)


def symbols_of(up: Up, query: str) -> Any:
    """Return the symbols that match, or None while the API process does not know them."""
    return json.loads(up.get(f"/api/symbols?{query}")[1]).get("symbols")


def count_at(up: Up, path: str) -> int | None:
    """Return the field ``count`` of a response."""
    count: int | None = json.loads(up.get(path)[1]).get("count")
    return count


def test_ctrl_c_in_a_terminal_ends_up_without_a_traceback(data: Path) -> None:
    with running_up(data, free_port()) as up:
        processes = up.processes()
        os.killpg(up.process.pid, signal.SIGINT)  # A terminal sends the signal to the whole foreground group.
        assert up.process.wait(timeout=10) == 0
        assert_all_end(processes, seconds=0)
    assert "Traceback" not in up.logs()


def test_second_up_serves_the_events_of_the_first(data: Path) -> None:
    port = free_port()
    message = {"channel": "tickstock.events.patterns", "payload": PATTERN}
    for _ in range(2):
        with running_up(data, port) as up:
            status, body = up.post("/api/events", message)
            assert status in (200, 201, 202), body
            scan = wait_until(lambda: scan_with_rows(up), "the scan has a row")
            assert scan["pagination"]["total"] == 1
            assert scan["patterns"][0]["symbol"] == "AAPL"
            up.process.send_signal(signal.SIGTERM)
            assert up.process.wait(timeout=10) == 0


def scan_with_rows(up: Up) -> dict | None:
    """Return the scan of the patterns if it has a row."""
    status, body = up.get("/api/patterns/scan")
    scan = json.loads(body)
    return scan if status == 200 and scan["patterns"] else None


def test_roles_end_after_up_is_killed_and_the_next_up_starts(data: Path) -> None:
    port = free_port()
    with running_up(data, port) as up:
        roles = {pid: process for pid, process in up.processes().items() if "python" in process.name()}
        assert len(roles) >= len(ROLES)
        up.process.kill()
        assert_all_end(roles, seconds=20)
        assert find_servers(data) is None
        with running_up(data, port) as next_up:
            wait_until(lambda: next_up.get("/api/health")[0] == 200, "the roles work")


def test_up_restarts_a_killed_role_and_a_killed_server(shared_up: Up) -> None:
    pids = {line.split()[0]: int(line.split()[2]) for line in shared_up.lines if "pid" in line}
    for name in ("project", "valkey"):
        os.kill(pids[name], signal.SIGKILL)
        assert "ended by SIGKILL" in shared_up.read_until(f"{name:<9}")
        assert int(shared_up.read_until(f"{name:<9}pid").split()[2]) != pids[name]


def test_second_up_on_the_same_folder_is_refused(shared_up: Up) -> None:
    second = subprocess.run(command(shared_up.data, free_port()), capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert len(second.stderr.splitlines()) == 1
    assert f"in use by process {shared_up.process.pid}" in second.stderr


def test_up_refuses_a_port_in_use_before_it_starts_a_server(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = subprocess.run(command(data, port), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "--port" in refused.stderr
    assert not (data / "valkey").exists()


def test_up_waits_for_its_own_api_while_another_program_has_the_port(data: Path) -> None:
    port = free_port()
    with running_up(data, port, ready="valkey") as up:
        with other_program(port):
            up.read_until("serve    ended")
            assert up.get("/api/health") == (200, b"1")
        assert "the API answers at" not in "".join(up.lines)
        up.read_until("the API answers at")
        assert "status" in json.loads(up.get("/api/health")[1])


@contextmanager
def other_program(port: int) -> Iterator[None]:
    """Answer every request for a resource on the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"1")

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
