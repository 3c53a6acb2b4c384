"""HTTP load: a process with many connections. Each connection sends a request, waits for the answer, and repeats.

Requests are prepared before the measurement, each is sent once, and only the status and the length of an answer are
read. So the load process needs little processor time itself.
"""

import asyncio
import gc
import multiprocessing
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import NamedTuple, cast

import uvloop

from infra.bench.errors import BenchmarkError
from infra.bench.measurement import quantile

MAX_ANSWER_SECONDS = 5.0
"""Longest acceptable latency, in seconds. If all connections together would exceed it, fewer are used."""

MIN_ANSWERS = 5
"""Number of answers until which a measurement is extended, for at most ``MAX_ANSWER_SECONDS``."""

ANSWER_TIMEOUT_SECONDS = 120.0
"""Seconds after which a missing answer is an error."""

WARM_UP_SECONDS = 0.3
"""Duration of each warm-up, in seconds."""

REQUEST_RESERVE = 2
"""Prepared requests as a multiple of the requests that the rate of the warm-up needs.

A measurement ends early when all prepared requests are sent.
"""

_SEQUENTIAL_REQUESTS = 3
"""Highest number of requests that measure the latency of a single connection."""

_MAX_WARM_UP_REQUESTS = 20_000
"""Highest number of requests of the warm-up with all connections."""


class Load(NamedTuple):
    """A load: the paths to request, the number of connections and the duration."""

    port: int
    paths: Callable[[], Iterator[str]]
    """Function that returns an endless iterator of paths. It must be picklable."""
    connections: int
    seconds: float
    """Duration of the measurement, in seconds."""


class Latencies(NamedTuple):
    """The rate of answers and their latencies."""

    per_second: float
    """Answers per second."""
    p50_ms: float
    """Median latency, in milliseconds."""
    p99_ms: float
    """99th percentile of the latency, in milliseconds."""
    answers: int
    connections: int
    """Number of used connections, which ``MAX_ANSWER_SECONDS`` may have reduced."""
    cost_us: float
    """Processor time of the client process per answer, in microseconds."""


@contextmanager
def load_process() -> Iterator[Callable[[Load], Latencies]]:
    """Start a load process. Yield the function that measures one load.

    The function raises BenchmarkError if an answer is missing or has another status than 200.
    """
    context = multiprocessing.get_context("spawn")
    pipe, child_pipe = context.Pipe()
    process = context.Process(target=_run_process, args=(child_pipe,))
    process.start()
    child_pipe.close()

    def measure_in_process(load: Load) -> Latencies:
        pipe.send(load)
        result: Latencies | BenchmarkError = pipe.recv()
        if isinstance(result, BenchmarkError):
            raise result
        return result

    try:
        yield measure_in_process
    finally:
        pipe.close()
        process.join()


def _run_process(pipe: Connection) -> None:
    """Measure each load that arrives in the pipe, until the other end is closed."""
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while True:
            try:
                load: Load = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(runner.run(measure(load)))
            except (BenchmarkError, OSError) as error:
                pipe.send(BenchmarkError(str(error)))
            gc.collect()


async def measure(load: Load) -> Latencies:
    """Estimate latency and rate with short runs, then measure with prepared requests."""
    requests = (encode_request(path) for path in load.paths())
    await RequestRun(load.port, list(islice(requests, 1))).run(1, 0)
    sequential = RequestRun(load.port, list(islice(requests, _SEQUENTIAL_REQUESTS)))
    await sequential.run(1, WARM_UP_SECONDS)
    shortest = min(sequential.times[: sequential.answers])
    connections = max(1, min(load.connections, int(MAX_ANSWER_SECONDS / shortest)))
    rate = 1 / shortest
    use_warm_up = shortest * connections < WARM_UP_SECONDS
    if use_warm_up:
        warm_up = RequestRun(load.port, list(islice(requests, _MAX_WARM_UP_REQUESTS)))
        await warm_up.run(connections, WARM_UP_SECONDS, primed=True)
        rate = warm_up.answers / warm_up.elapsed
    count = int(REQUEST_RESERVE * rate * load.seconds) + 2 * connections + MIN_ANSWERS
    measured = RequestRun(load.port, list(islice(requests, count)))
    before = time.process_time()
    await measured.run(connections, load.seconds, MIN_ANSWERS, primed=use_warm_up)
    cost = time.process_time() - before
    times = sorted(measured.times[: measured.answers])
    return Latencies(
        measured.answers / measured.elapsed,
        quantile(times, 0.5) * 1_000,
        quantile(times, 0.99) * 1_000,
        measured.answers,
        connections,
        cost / measured.answers * 1_000_000,
    )


def encode_request(path: str) -> bytes:
    """Return the bytes of a GET request."""
    return b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path.encode()


class RequestRun:
    """A run of prepared requests over several connections, with the latency of each answer in ``times`` (seconds)."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port = port
        self.times = array("d", bytes(8 * len(requests)))
        self.answers = 0
        self.elapsed = 0.0
        self.next_request = iter(requests).__next__
        self.ends_at = self.min_answers = 0.0
        self._active = 0
        self._over: asyncio.Future[None]

    async def run(self, connections: int, seconds: float, min_answers: int = 0, *, primed: bool = False) -> None:
        """Send requests and set ``answers``, ``times`` and ``elapsed`` (seconds until the last answer).

        Args:
            connections: Number of connections.
            seconds: Seconds during which requests are sent.
            min_answers: Number of answers until which the run is extended.
            primed: Whether each connection receives one answer before the measurement starts. A busy server accepts
                connections slowly, so that the last ones would wait for long.

        Raises:
            BenchmarkError: An answer has another status than 200, or is missing.
        """
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: _ClientConnection(self), "127.0.0.1", self._port)
            for _ in range(connections)
        ]
        clients = [client for _, client in opened]
        try:
            if primed:
                await self._send_requests(clients, 0, 0)
            await self._send_requests(clients, seconds, min_answers)
        finally:
            for transport, _ in opened:
                transport.close()

    async def _send_requests(self, clients: Sequence["_ClientConnection"], seconds: float, min_answers: int) -> None:
        self._over = asyncio.get_running_loop().create_future()
        self._active = len(clients)
        self.answers = 0
        started = time.perf_counter()
        self.ends_at, self.min_answers = started + seconds, min_answers
        for client in clients:
            client.send(time.perf_counter())
        try:
            await asyncio.wait_for(self._over, seconds + ANSWER_TIMEOUT_SECONDS)
        except TimeoutError:
            raise BenchmarkError(
                f"{self._active} answers are missing after {ANSWER_TIMEOUT_SECONDS:.0f} seconds."
            ) from None
        self.elapsed = time.perf_counter() - started

    def continues(self, now: float) -> bool:
        """Return whether a connection sends another request."""
        return now < self.ends_at or (self.answers < self.min_answers and now < self.ends_at + MAX_ANSWER_SECONDS)

    def finish(self) -> None:
        """Count a connection that sends no more requests. The last connection ends the run."""
        self._active -= 1
        if self._active == 0 and not self._over.done():
            self._over.set_result(None)

    def fail(self, message: str) -> None:
        """End the run with an error."""
        if not self._over.done():
            self._over.set_exception(BenchmarkError(message))


class _ClientConnection(asyncio.Protocol):
    """A connection of a run."""

    def __init__(self, run: RequestRun) -> None:
        self._run = run
        self._sent_at = 0.0
        self._missing_bytes = 0
        self._head = b""
        self._finished = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the write function. The first request is sent when all connections are open."""
        # The transports of uvloop are not subclasses of asyncio.Transport.
        self._write = cast("asyncio.Transport", transport).write

    def send(self, now: float) -> None:
        """Send the next request."""
        try:
            request = self._run.next_request()
        except StopIteration:
            self._finish()
            return
        self._sent_at, self._finished = now, False
        self._write(request)

    def data_received(self, data: bytes) -> None:
        """Read a part of an answer. After the last part, send the next request."""
        if self._missing_bytes:
            self._missing_bytes -= len(data)
        else:
            if self._head:
                data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            if not data.startswith(b"HTTP/1.1 200 "):
                self._run.fail(f"An answer does not have status 200: {data[:2000].decode(errors='replace')}")
                return
            self._missing_bytes = end + 4 + _content_length(data, end) - len(data)
        if self._missing_bytes:
            return
        now = time.perf_counter()
        run = self._run
        run.times[run.answers] = now - self._sent_at
        run.answers += 1
        if now < run.ends_at or run.continues(now):
            self.send(now)
        else:
            self._finish()

    def _finish(self) -> None:
        self._finished = True
        self._run.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the run with an error if the server closed a connection that waits for an answer."""
        if not self._finished:
            self._run.fail(f"The server closed a connection: {exc or 'no error was reported'}")


def _content_length(data: bytes, end: int) -> int:
    start = data.find(b"content-length: ", 0, end)
    if start < 0:
        raise BenchmarkError(f"An answer has no Content-Length: {data[:end].decode(errors='replace')}")
    return int(data[start + 16 : data.find(b"\r", start)])
