"""The demo's loop: plays bars, runs backtests and reports its health, until it is told to stop."""

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
from redis.asyncio import Redis

from infra.demo import bars, detection, play
from infra.demo.backtest import backtest
from infra.demo.detection import Chart
from infra.demo.messages import Message, backtest_progress, backtest_result, system_health
from infra.demo.patterns import PATTERNS, Pattern
from infra.redis.connections import CONNECTION_ERRORS, connect_async

HEALTH_SECONDS = 5.0
RECONNECT_SECONDS = 0.5
CANCEL_AGAIN_SECONDS = 0.2
BACKTESTS_AT_ONCE = 2
BACKTEST_STEPS_A_DAY = 5
"""Years that a backtest tests while one trading day is played."""
SHORTEST_TURN_SECONDS = 0.05
COSTS_BASIS_POINTS = (5.0, 10.0, 20.0)
"""What each opening and each closing of a trade costs; every backtest is run with each of them in turn."""

logger = structlog.get_logger()

Publish = Callable[[Sequence[Message]], Awaitable[None]]


class Job(NamedTuple):
    """A backtest to be run."""

    chart: Chart
    pattern: Pattern
    cost_basis_points: float

    def described(self) -> dict[str, Any]:
        """What is tested, for those who read the announcements."""
        return {
            "symbol": self.chart.ticker,
            "pattern": self.pattern.name,
            "hold_days": self.pattern.horizon,
            "cost_basis_points": self.cost_basis_points,
        }


def run(redis_url: str, speed: float) -> None:
    """Announce over the Redis at ``redis_url`` until SIGTERM, SIGINT or SIGHUP.

    ``speed``, above 0, is in trading days a second, for each symbol. A Redis that is away is waited for.
    """
    asyncio.run(_until_stopped(redis_url, speed))


async def _until_stopped(redis_url: str, speed: float) -> None:
    stopping = asyncio.Event()
    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(stop, stopping.set)
    async with connect_async(redis_url) as client:
        tasks = [asyncio.create_task(work) for work in (*_work(client, speed), stopping.wait())]
        ended, going_on = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while going_on:
            # Again and again: a client that is connecting at the moment may swallow a cancellation.
            for task in going_on:
                task.cancel()
            _, going_on = await asyncio.wait(going_on, timeout=CANCEL_AGAIN_SECONDS)
        for task in ended:
            task.result()


def _work(client: Redis, speed: float) -> Iterator[Coroutine[Any, Any, None]]:
    """What goes on side by side, without end."""
    charts = tuple(detection.charts(bars.load()).values())
    symbols = play.series(charts)
    logger.info("demo plays", symbols=len(symbols), trading_days_per_second=speed)
    jobs = _jobs(charts)

    async def publish(messages: Sequence[Message]) -> None:
        await _publish(client, messages)

    yield _play(symbols, publish, 1 / speed)
    for _ in range(BACKTESTS_AT_ONCE):
        yield _run_backtests(jobs, publish, 1 / speed / BACKTEST_STEPS_A_DAY)
    yield _report_health(publish)


async def _publish(client: Redis, messages: Sequence[Message]) -> None:
    """Publish in order; wait for a server that is away, for an update needs its detection."""
    waiting = False
    while messages:
        try:
            async with client.pipeline(transaction=False) as pipeline:
                for message in messages:
                    pipeline.publish(message.channel, message.encoded())
                await pipeline.execute()
        except CONNECTION_ERRORS as error:
            if not waiting:
                logger.warning("Redis is away, the demo waits for it", error=str(error))
            waiting = True
            await asyncio.sleep(RECONNECT_SECONDS)
        else:
            return


async def _play(symbols: Sequence[play.Series], publish: Publish, seconds_a_day: float) -> None:
    """One bar of each symbol a trading day; the symbols take turns, evenly over the day."""
    loop = asyncio.get_running_loop()
    turns = min(len(symbols), max(1, int(seconds_a_day / SHORTEST_TURN_SECONDS)))
    due = loop.time()
    for turn in cycle(range(turns)):
        now = time.time()
        await publish([message for series in symbols[turn::turns] for message in series.play(now)])
        due = max(due + seconds_a_day / turns, loop.time())
        await asyncio.sleep(due - loop.time())


def _jobs(charts: Sequence[Chart]) -> Iterator[Job]:
    """Every pattern on every chart, over and over, each round with another cost."""
    for cost in cycle(COSTS_BASIS_POINTS):
        for pattern in PATTERNS:
            for chart in charts:
                yield Job(chart, pattern, cost)


async def _run_backtests(jobs: Iterator[Job], publish: Publish, seconds_a_step: float) -> None:
    for job in jobs:
        await _run_backtest(job, publish, seconds_a_step)


async def _run_backtest(job: Job, publish: Publish, seconds_a_step: float) -> None:
    """Walk forward, a year a step: each step tests all bars up to the end of its year."""
    started = time.time()
    job_id = f"backtest_{int(started)}_{secrets.token_hex(4)}"
    directions = job.chart.directions[job.pattern.name]
    ends = _year_ends(job.chart)
    estimated_completion = started + len(ends) * seconds_a_step
    await publish([backtest_progress(job.described(), job_id, 0, estimated_completion, started)])
    results = None
    for step, end in enumerate(ends, start=1):
        await asyncio.sleep(seconds_a_step)
        results = backtest(job.chart.bars.first(end), directions[:end], job.pattern.horizon, job.cost_basis_points)
        now = time.time()
        estimated_completion = now + (len(ends) - step) * seconds_a_step
        progress = step / len(ends)
        await publish([backtest_progress(job.described(), job_id, progress, estimated_completion, now)])
    now = time.time()
    await publish([backtest_result(job.described(), job_id, results, now - started, now)])


def _year_ends(chart: Chart) -> list[int]:
    """For each year: how many bars the chart has up to its end."""
    years = chart.bars.dates.astype("datetime64[Y]")
    return [int(end) for end in np.searchsorted(years, np.unique(years), side="right")]


async def _report_health(publish: Publish) -> None:
    started = time.monotonic()
    then, cpu_then = started, time.process_time()
    while True:
        now, cpu_now = time.monotonic(), time.process_time()
        metrics = {
            "cpu_usage": round((cpu_now - cpu_then) / (now - then), 4) if now > then else 0.0,
            "memory_usage": round(_peak_memory_bytes() / _memory_bytes(), 4),
            "disk_usage": round(_disk_usage(), 4),
            "active_jobs": BACKTESTS_AT_ONCE,
            "uptime_hours": round((now - started) / 3600, 4),
        }
        then, cpu_then = now, cpu_now
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
