"""The scanner with 100,000 active patterns, compared with the same page with 100."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Page, expect

from infra.bench.query import fill, fold
from infra.redis.connections import connect
from infra.settings import Settings
from tests import servers
from tests.console.scanner_page import open_scanner, row
from tests.console.service import ConsoleService, changed
from tests.processes.api_service import api, detection, scan_source
from tests.processes.roles import wait_until

FEW, MANY = 100, 100_000

UPDATES = 10

COUNT_LONG_TASKS = """
window.longTasks = 0;
new PerformanceObserver((list) => { window.longTasks += list.getEntries().length; }).observe({type: "longtask"});
"""


class Work(NamedTuple):
    """The work of the page for some updates."""

    rows: int
    nodes: float
    long_tasks: int
    task_seconds: float
    seconds_to_paint: float
    """Shortest time from an update to its paint. The machine may have other work to do."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ConsoleService]:
    """A service with few patterns. The test is its only worker."""
    with servers.valkey(tmp_path) as redis, connect(redis.connection_url) as client:
        fill(client, Settings(redis_url=redis.connection_url), FEW, symbols=50)
        with api(redis.connection_url, api_processes=1, wait_seconds=30) as http:
            wait_until(lambda: scan_source(http) == "replica", "the replica answers")
            yield ConsoleService(http, redis, "")


def test_100_000_patterns_do_not_slow_the_page(page: Page, service: ConsoleService) -> None:
    page.add_init_script(COUNT_LONG_TASKS)
    few = work_of(page, service, "FEW")
    page.goto("about:blank")
    settings = Settings(redis_url=service.redis_url)
    with connect(service.redis_url) as client:
        fill(client, settings, MANY, symbols=3_000)
    wait_until(lambda: total_of(service) > MANY, "the API has all patterns")
    many = work_of(page, service, "MANY")
    assert many.rows == few.rows == 30
    assert many.nodes < 1.25 * few.nodes
    assert many.long_tasks <= few.long_tasks + UPDATES // 2, (few, many)
    assert many.task_seconds < 4 * few.task_seconds, (few, many)
    assert many.seconds_to_paint < 4 * few.seconds_to_paint, (few, many)


def total_of(service: ConsoleService) -> int:
    return int(service.client.get("/api/patterns/scan?confidence_min=0").json()["pagination"]["total"])


def work_of(page: Page, service: ConsoleService, symbol: str) -> Work:
    """Change a pattern again and again."""
    message = detection(symbol, confidence=1, current_price=1_000.0)
    record(service, message)
    open_scanner(page)
    expect(row(page, symbol)).to_be_visible()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    before = metrics_of(session)
    seconds = []
    for number in range(UPDATES):
        began = time.monotonic()
        record(service, changed(message, current_price=2_000.0 + number))
        row(page, symbol).filter(has_text=f"2,{number:03}").wait_for()
        seconds.append(time.monotonic() - began)
    session.send("HeapProfiler.collectGarbage")
    after = metrics_of(session)
    return Work(
        rows=page.locator("tbody tr").count(),
        nodes=after["Nodes"],
        long_tasks=page.evaluate("window.longTasks"),
        task_seconds=after["TaskDuration"] - before["TaskDuration"],
        seconds_to_paint=min(seconds),
    )


def metrics_of(session: Any) -> dict[str, float]:
    return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}


def record(service: ConsoleService, message: dict[str, Any]) -> None:
    service.post(message)
    with connect(service.redis_url) as client:
        fold(client, Settings(redis_url=service.redis_url))
