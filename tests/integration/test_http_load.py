"""The HTTP load of the benchmarks: requests, answers, connections and failures."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

import pytest

from infra.bench import http_load
from infra.bench.errors import BenchmarkError
from infra.bench.http_load import Load, RequestRun, encode_request, load_process, measure
from infra.bench.scans import SCAN_KINDS, ScanKind, repeated_paths, varied_paths


class FragmentingServer:
    """An HTTP server in a thread that records the requested paths and sends each answer in three pieces.

    If ``closes`` is set, the server closes a connection after each answer, and delays each answer more than the last.
    """

    def __init__(self, status: bytes, seconds: float, closes: bool) -> None:
        self.paths: list[str] = []
        self.port = 0
        self.ready = threading.Event()
        self._status = status
        self._seconds = seconds
        self._closes = closes
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        """Serve until ``stop`` is called."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._stopped = asyncio.Event()
        self.ready.set()
        await self._stopped.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            self.paths.append(request.split()[1].decode())
            if self._closes:
                self._seconds += 0.05
            await asyncio.sleep(self._seconds)
            for piece in (b"HTTP/1.1 " + self._status + b"\r\ncontent-", b"length: 6\r\n\r\nabc", b"def"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if self._closes:
                break
        writer.close()

    def stop(self) -> None:
        """End ``run``."""
        self._loop.call_soon_threadsafe(self._stopped.set)


@contextmanager
def run_server(status: bytes = b"200 OK", seconds: float = 0, closes: bool = False) -> Iterator[FragmentingServer]:
    server = FragmentingServer(status, seconds, closes)
    thread = threading.Thread(target=server.run)
    thread.start()
    server.ready.wait()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def test_every_request_is_sent_once_and_its_answer_counted() -> None:
    with run_server() as server, load_process() as load:
        load(Load(server.port, partial(varied_paths, "ABCD", 4_000, 1), 3, 0.01))
        before = len(server.paths)
        measured = load(Load(server.port, partial(varied_paths, "ABCD", 4_000, 2), 3, 0.2))
    paths = server.paths[before:]
    assert len(set(paths)) == len(paths)
    assert measured.connections == 3
    assert http_load.MIN_ANSWERS <= measured.answers < len(paths)
    assert 0 < measured.p50_ms <= measured.p99_ms
    assert measured.cost_us > 0


def test_a_run_ends_with_the_answer_to_its_last_request() -> None:
    paths = [f"/{number}" for number in range(20)]
    with run_server() as server:
        run = RequestRun(server.port, [encode_request(path) for path in paths])
        asyncio.run(run.run(connections=3, seconds=60))
    assert sorted(server.paths) == sorted(paths)
    assert run.answers == 20
    assert all(seconds > 0 for seconds in run.times)


def test_an_answer_with_another_status_than_200_ends_the_measurement_and_not_the_process() -> None:
    with run_server(b"404 Not Found") as wrong, run_server() as right, load_process() as load:
        with pytest.raises(BenchmarkError, match="404 Not Found"):
            load(Load(wrong.port, partial(repeated_paths, "A", 10, 1), 1, 0.1))
        assert load(Load(right.port, partial(repeated_paths, "A", 10, 1), 1, 0.1)).answers > 0


def test_slow_answers_reduce_the_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load, "MAX_ANSWER_SECONDS", 0.1)
    with run_server(seconds=0.03) as server:
        measured = asyncio.run(measure(Load(server.port, partial(repeated_paths, "A", 10, 1), 50, 0.05)))
    assert 1 <= measured.connections <= 3
    assert measured.answers > 0


@pytest.mark.parametrize("case", SCAN_KINDS, ids=lambda case: case.name)
def test_varied_paths_never_repeat(case: ScanKind) -> None:
    paths = list(islice(varied_paths(case.name, 4_000, 1), 5_000))
    assert len(set(paths)) == 5_000
    repeated = repeated_paths(case.name, 4_000, 1)
    assert set(islice(repeated, 10)) == {paths[0]}


def test_a_server_may_close_a_connection_after_its_last_answer() -> None:
    with run_server(closes=True) as server:
        run = RequestRun(server.port, [encode_request(f"/{number}") for number in range(4)])
        asyncio.run(run.run(connections=4, seconds=0))
    assert run.answers == 4


def test_a_connection_closed_before_an_answer_ends_the_measurement() -> None:
    with run_server(closes=True) as server:
        run = RequestRun(server.port, [encode_request(f"/{number}") for number in range(4)])
        with pytest.raises(BenchmarkError, match="The server closed a connection"):
            asyncio.run(run.run(connections=1, seconds=60))
