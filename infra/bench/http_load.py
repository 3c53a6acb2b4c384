"""HTTP load: a few connections that each ask, wait for the answer, and ask again."""

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

from infra.bench.measuring import quantile


class Latencies(NamedTuple):
    """Requests a second, and the times they took, in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def drive(host: str, port: int, paths: Iterator[str], connections: int, seconds: float) -> Latencies:
    """Ask for ``paths``, taken in turn, for so long. Raises RuntimeError for an answer that is not 200."""
    times: list[float] = []
    started = time.perf_counter()
    end = started + seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(_ask_again_and_again(host, port, paths, end, times))
    elapsed = time.perf_counter() - started
    times.sort()
    return Latencies(len(times) / elapsed, quantile(times, 0.5) * 1000, quantile(times, 0.99) * 1000)


async def _ask_again_and_again(host: str, port: int, paths: Iterator[str], end: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while (asked := time.perf_counter()) < end:
            path = next(paths)
            writer.write(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path.encode(), host.encode()))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{path}: {head.splitlines()[0].decode()}")
            await reader.readexactly(_content_length(head))
            times.append(time.perf_counter() - asked)
    finally:
        writer.close()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.removeprefix(b"content-length:"))
    raise RuntimeError("an answer without Content-Length")
