"""The main loop of the demo: it plays bars, runs backtests and reports its health until a signal ends it."""

import asyncio
import os
import resource
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import structlog

from infra.demo import bars, detection, play
from infra.demo.backtest import backtest
from infra.demo.detection import Chart
from infra.demo.messages import Announcement, backtest_progress, backtest_result, system_health
from infra.demo.patterns import PATTERNS, Pattern
from infra.redis.connections import CONNECTION_ERRORS, AsyncRedisClient, connect_async

HEALTH_SECONDS = 5.0
"""Seconds between two health reports."""

RECONNECT_SECONDS = 0.5
"""Seconds between two attempts to reach Redis."""

CANCEL_INTERVAL_SECONDS = 0.2
"""Seconds between two attempts to cancel the tasks."""

CONCURRENT_BACKTESTS = 2
"""Number of backtests that run at the same time."""

BACKTEST_STEPS_PER_DAY = 5
"""Number of steps of a backtest, each a year of bars, per played trading day."""

MIN_TURN_SECONDS = 0.05
"""Shortest time between two groups of symbols, in seconds."""

COSTS_BASIS_POINTS = (5.0, 10.0, 20.0)
"""Costs of each opening and each closing of a trade, in basis points. A backtest uses one after the other."""

logger = structlog.get_logger()

Publish = Callable[[Sequence[Announcement]], Awaitable[None]]
"""Publishes announcements in order."""


class Job(NamedTuple):
    """A backtest to run."""

    chart: Chart
    pattern: Pattern
    cost_basis_points: float

    def fields(self) -> dict[str, Any]:
        """Return the fields of an announcement that describe the backtest."""
        return {
            "symbol": self.chart.ticker,
            "pattern": self.pattern.name,
            "hold_days": self.pattern.horizon,
            "cost_basis_points": self.cost_basis_points,
        }


def run(redis_url: str, speed: float) -> None:
    """Publish announcements until SIGTERM, SIGINT or SIGHUP. During an outage of Redis the demo waits.

    Args:
        redis_url: The URL of the Redis server.
        speed: Trading days per second and symbol, above 0.
    """
    asyncio.run(_run_until_signal(redis_url, speed))


async def _run_until_signal(redis_url: str, speed: float) -> None:
    stopping = asyncio.Event()
    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(stop, stopping.set)
    async with connect_async(redis_url) as client:
        tasks = [asyncio.create_task(coroutine) for coroutine in (*_coroutines(client, speed), stopping.wait())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while pending:
            # Cancel repeatedly, because a Redis client that is connecting may swallow a cancellation.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_INTERVAL_SECONDS)
        for task in done:
            task.result()


def _coroutines(client: AsyncRedisClient, speed: float) -> Iterator[Coroutine[Any, Any, None]]:
    """Yield the coroutines that run concurrently and without end."""
    charts = tuple(detection.charts(bars.load()).values())
    symbols = play.series(charts)
    logger.info("demo started", symbols=len(symbols), trading_days_per_second=speed)
    jobs = _jobs(charts)

    async def publish(messages: Sequence[Announcement]) -> None:
        await _publish(client, messages)

    yield _play(symbols, publish, 1 / speed)
    for _ in range(CONCURRENT_BACKTESTS):
        yield _run_backtests(jobs, publish, 1 / speed / BACKTEST_STEPS_PER_DAY)
    yield _report_health(publish)


async def _publish(client: AsyncRedisClient, messages: Sequence[Announcement]) -> None:
    """Publish in order. Wait during an outage of Redis, because an update needs the detection before it."""
    waiting = False
    while messages:
        try:
            async with client.pipeline(transaction=False) as pipeline:
                for message in messages:
                    pipeline.publish(message.channel, message.encoded())
                await pipeline.execute()
        except CONNECTION_ERRORS as error:
            if not waiting:
                logger.warning("Redis is unreachable, the demo waits", error=str(error))
            waiting = True
            await asyncio.sleep(RECONNECT_SECONDS)
        else:
            return


async def _play(symbols: Sequence[play.Series], publish: Publish, seconds_a_day: float) -> None:
    """Play one bar of each symbol per trading day. Distribute the symbols evenly over the day."""
    loop = asyncio.get_running_loop()
    turns = min(len(symbols), max(1, int(seconds_a_day / MIN_TURN_SECONDS)))
    due = loop.time()
    for turn in cycle(range(turns)):
        now = time.time()
        await publish([message for series in symbols[turn::turns] for message in series.play(now)])
        due = max(due + seconds_a_day / turns, loop.time())
        await asyncio.sleep(due - loop.time())


def _jobs(charts: Sequence[Chart]) -> Iterator[Job]:
    """Yield a backtest of every pattern on every chart without end, each round with another cost."""
    for cost in cycle(COSTS_BASIS_POINTS):
        for pattern in PATTERNS:
            for chart in charts:
                yield Job(chart, pattern, cost)


async def _run_backtests(jobs: Iterator[Job], publish: Publish, seconds_a_step: float) -> None:
    for job in jobs:
        await _run_backtest(job, publish, seconds_a_step)


async def _run_backtest(job: Job, publish: Publish, seconds_a_step: float) -> None:
    """Run a backtest in steps of a year. Each step tests all bars up to the end of its year."""
    started = time.time()
    job_id = f"backtest_{int(started)}_{secrets.token_hex(4)}"
    directions = job.chart.directions[job.pattern.name]
    ends = _year_ends(job.chart)
    estimated_completion = started + len(ends) * seconds_a_step
    await publish([backtest_progress(job.fields(), job_id, 0, estimated_completion, started)])
    results = None
    for step, end in enumerate(ends, start=1):
        await asyncio.sleep(seconds_a_step)
        results = backtest(job.chart.bars.first(end), directions[:end], job.pattern.horizon, job.cost_basis_points)
        now = time.time()
        estimated_completion = now + (len(ends) - step) * seconds_a_step
        progress = step / len(ends)
        await publish([backtest_progress(job.fields(), job_id, progress, estimated_completion, now)])
    now = time.time()
    await publish([backtest_result(job.fields(), job_id, results, now - started, now)])


def _year_ends(chart: Chart) -> list[int]:
    """Return for each year the number of bars of the chart up to the end of the year."""
    years = chart.bars.dates.astype("datetime64[Y]")
    return [int(end) for end in np.searchsorted(years, np.unique(years), side="right")]


async def _report_health(publish: Publish) -> None:
    started = time.monotonic()
    last_time, last_cpu = started, time.process_time()
    while True:
        now, cpu = time.monotonic(), time.process_time()
        metrics = {
            "cpu_usage": round((cpu - last_cpu) / (now - last_time), 4) if now > last_time else 0.0,
            "memory_usage": round(_peak_memory_bytes() / _memory_bytes(), 4),
            "disk_usage": round(_disk_usage(), 4),
            "active_jobs": CONCURRENT_BACKTESTS,
            "uptime_hours": round((now - started) / 3600, 4),
        }
        last_time, last_cpu = now, cpu
        await publish([system_health(metrics, time.time())])
        await asyncio.sleep(HEALTH_SECONDS)


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _disk_usage() -> float:
    usage = shutil.disk_usage(".")
    return usage.used / usage.total
