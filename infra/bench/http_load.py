"""HTTP load: a process of its own whose connections each ask, wait for the answer, and ask again.

Requests are made before the clock runs, each is sent once, and of an answer only its status and length are looked at,
so that what is measured is the server.
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

from infra.bench.measurement import quantile

LONGEST_SECONDS = 5.0
"""So long may an answer take while all connections ask: where it would be longer, fewer ask."""

FEWEST_ANSWERS = 5
"""A measurement goes on until there are so many, but no longer than ``LONGEST_SECONDS``."""

LOST_SECONDS = 120.0
"""An answer that takes so long will not come."""

WARMING_SECONDS = 0.3

SPARE = 2
"""Times the requests that the rate of warming up asks for are made; with the last one, a measurement ends early."""

_ONE_BY_ONE, _MOST_WARMING = 3, 20_000


class Load(NamedTuple):
    """What to ask. ``paths`` is called once and must be picklable; what it makes goes on without end."""

    port: int
    paths: Callable[[], Iterator[str]]
    connections: int
    seconds: float


class Latencies(NamedTuple):
    """Answers a second, and the times they took, in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    answers: int
    connections: int
    """Fewer than were to ask, where an answer would have taken more than ``LONGEST_SECONDS``."""
    cost_us: float
    """Processor time that an answer cost the process that asked, in microseconds."""


@contextmanager
def load_process() -> Iterator[Callable[[Load], Latencies]]:
    """A process that asks: what is yielded measures one load. It raises RuntimeError for an answer that is not 200."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,))
    process.start()
    theirs.close()

    def measure(load: Load) -> Latencies:
        ours.send(load)
        result: Latencies | RuntimeError = ours.recv()
        if isinstance(result, RuntimeError):
            raise result
        return result

    try:
        yield measure
    finally:
        ours.close()
        process.join()


def _work(pipe: Connection) -> None:
    """Measure what is asked for, until there is nobody who asks."""
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while True:
            try:
                load: Load = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(runner.run(_measure(load)))
            except (RuntimeError, OSError) as error:
                pipe.send(RuntimeError(str(error)))
            gc.collect()


async def _measure(load: Load) -> Latencies:
    requests = (_request(path) for path in load.paths())
    await _Round(load.port, list(islice(requests, 1))).run(1, 0)
    one_by_one = _Round(load.port, list(islice(requests, _ONE_BY_ONE)))
    await one_by_one.run(1, WARMING_SECONDS)
    alone = min(one_by_one.times[: one_by_one.answers])
    connections = max(1, min(load.connections, int(LONGEST_SECONDS / alone)))
    rate = 1 / alone
    quick = alone * connections < WARMING_SECONDS
    if quick:
        warming = _Round(load.port, list(islice(requests, _MOST_WARMING)))
        await warming.run(connections, WARMING_SECONDS, primed=True)
        rate = warming.answers / warming.elapsed
    ahead = int(SPARE * rate * load.seconds) + 2 * connections + FEWEST_ANSWERS
    measured = _Round(load.port, list(islice(requests, ahead)))
    before = time.process_time()
    await measured.run(connections, load.seconds, FEWEST_ANSWERS, primed=quick)
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


def _request(path: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path.encode()


class _Round:
    """Requests being sent to a port and answered, each once."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port = port
        self.times = array("d", bytes(8 * len(requests)))
        self.answers = 0
        self.elapsed = 0.0
        self.next_request = iter(requests).__next__
        self.ends_at = self.fewest = 0.0
        self._asking = 0
        self._over: asyncio.Future[None]

    async def run(self, connections: int, seconds: float, fewest: int = 0, *, primed: bool = False) -> None:
        """Ask over so many connections for ``seconds``, and then until there are ``fewest`` answers.

        ``elapsed`` is until the last answer. With ``primed``, each connection has an answer before the clock runs: a
        busy server accepts one connection a turn, so that the last of many would wait for long.
        Raises RuntimeError for an answer that is not 200, and for none.
        """
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: _Asking(self), "127.0.0.1", self._port) for _ in range(connections)
        ]
        asking = [one for _, one in opened]
        try:
            if primed:
                await self._ask(asking, 0, 0)
            await self._ask(asking, seconds, fewest)
        finally:
            for transport, _ in opened:
                transport.close()

    async def _ask(self, asking: Sequence["_Asking"], seconds: float, fewest: int) -> None:
        self._over = asyncio.get_running_loop().create_future()
        self._asking = len(asking)
        self.answers = 0
        started = time.perf_counter()
        self.ends_at, self.fewest = started + seconds, fewest
        for one in asking:
            one.ask(time.perf_counter())
        try:
            await asyncio.wait_for(self._over, seconds + LOST_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"{self._asking} answers did not come within {LOST_SECONDS:.0f} s") from None
        self.elapsed = time.perf_counter() - started

    def goes_on(self, now: float) -> bool:
        """Whether there shall be more requests."""
        return now < self.ends_at or (self.answers < self.fewest and now < self.ends_at + LONGEST_SECONDS)

    def leave(self) -> None:
        """A connection has asked its last."""
        self._asking -= 1
        if self._asking == 0 and not self._over.done():
            self._over.set_result(None)

    def fail(self, why: str) -> None:
        """A connection cannot go on."""
        if not self._over.done():
            self._over.set_exception(RuntimeError(why))


class _Asking(asyncio.Protocol):
    """One connection."""

    def __init__(self, round_: _Round) -> None:
        self._round = round_
        self._asked = 0.0
        self._missing = 0
        self._head = b""
        self._left = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing is asked before all are connected."""
        # uvloop's transports are no subclasses.
        self._write = cast("asyncio.Transport", transport).write

    def ask(self, now: float) -> None:
        """Send the next request."""
        try:
            request = self._round.next_request()
        except StopIteration:
            self._leave()
            return
        self._asked, self._left = now, False
        self._write(request)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; ask again after the last."""
        if self._missing:
            self._missing -= len(data)
        else:
            if self._head:
                data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            if not data.startswith(b"HTTP/1.1 200 "):
                self._round.fail(f"an answer is not 200 but {data[:2000].decode(errors='replace')}")
                return
            self._missing = end + 4 + _content_length(data, end) - len(data)
        if self._missing:
            return
        now = time.perf_counter()
        one = self._round
        one.times[one.answers] = now - self._asked
        one.answers += 1
        if now < one.ends_at or one.goes_on(now):
            self.ask(now)
        else:
            self._leave()

    def _leave(self) -> None:
        self._left = True
        self._round.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """We have closed it, or the server, which may while the last answers of others are waited for."""
        if not self._left:
            self._round.fail(f"the server has closed a connection: {exc or 'without an error'}")


def _content_length(data: bytes, end: int) -> int:
    at = data.find(b"content-length: ", 0, end)
    if at < 0:
        raise RuntimeError(f"an answer without Content-Length: {data[:end].decode(errors='replace')}")
    return int(data[at + 16 : data.find(b"\r", at)])
