"""A switch of the live build during a request, on a real Valkey: each response comes from one build.

The test repeats a request to the real resource. In each repetition, the other build goes live one step of the event
loop later than in the repetition before.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

import httpx
import pytest
from falcon.asgi import App
from prometheus_client import CollectorRegistry
from redis import Redis

from infra.read_models.row_queries import RedisRowQueries
from infra.redis.connections import connect_async
from infra.serving.live_read_model import LiveReadModel
from projections.base import Projection
from projections.patterns import ActivePatterns, PatternRow, pattern_id
from projections.versions import Build
from projections.workspaces import Workspaces
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.patterns.list_filters import CallerWorkspace
from readapi.patterns.overview import SummaryResource
from readapi.patterns.scan import ScanResource
from readapi.read_models.as_of import RowHistory
from readapi.read_models.filter_parameters import AS_THEY_ARE
from tests.catalogue import CatalogueFixture
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter

LOG = "market-0"
OTHER = Build(1, 2)
SIZES = {FIRST_BUILD: 3, OTHER: 8}
"""The number of patterns of each build, which is also its checkpoint."""


def rows_of_build(build: Build) -> dict[str, PatternRow]:
    """Return the rows of a build. Both builds have the same symbols, but different confidences."""
    confidence = 0.5 + build.number / 10
    rows = {}
    for number in range(SIZES[build]):
        key = pattern_id(f"S{number}", "Doji", "daily", 1.0)
        rows[key] = PatternRow(key, f"S{number}", "Doji", "daily", confidence, 1.0, 1.0)
    return rows


def build_of_scan(response: httpx.Response) -> Build:
    """Return the build that a scan names, after a check that all rows are from this build."""
    content = response.json()
    build = Build.parse(content["cache_info"]["build"])
    assert {row["conf"] for row in content["patterns"]} == {0.5 + build.number / 10}
    assert content["pagination"]["total"] == len(content["patterns"]) == SIZES[build]
    return build


def build_of_summary(response: httpx.Response) -> Build:
    """Return the build with the total of a summary, after a check that all rows are from this build."""
    summary = response.json()["summary"]
    [build] = [build for build, size in SIZES.items() if size == summary["total"]]
    for part in ("most_confident", "latest"):
        assert {row["conf"] for row in summary[part]} == {0.5 + build.number / 10}
        assert len(summary[part]) == min(5, SIZES[build])
    return build


@pytest.mark.parametrize(
    ("path", "build_of"), [("/scan", build_of_scan), ("/summary", build_of_summary)], ids=["scan", "summary"]
)
@pytest.mark.parametrize("header", [{}, {"TickView-Min-Position": f"{LOG}=3"}], ids=["no-position", "min-position"])
def test_a_response_comes_from_one_build(
    redis: Redis, redis_url: str, path: str, build_of: Callable[[httpx.Response], Build], header: dict[str, str]
) -> None:
    for build in SIZES:
        SegmentWriter(redis, ActivePatterns(), LOG, build).put(rows_of_build(build))

    async def test() -> None:
        async with connect_async(redis_url) as client:

            def open_live(projection: Projection[Any, Any], log: str) -> LiveReadModel:
                return LiveReadModel(
                    projection, [log], lambda build, logs: RedisRowQueries(client, projection, build, logs)
                )

            live_patterns = open_live(ActivePatterns(), LOG)
            read_model = ReadModel(ActivePatterns(), live_patterns, wait_seconds=60)
            app = App(middleware=[RequestMetrics(CollectorRegistry())])
            live_workspaces = open_live(Workspaces(), "users")
            caller_workspace = CallerWorkspace(ReadModel(Workspaces(), live_workspaces, wait_seconds=60))
            app.add_route(
                "/scan",
                ScanResource(
                    read_model,
                    RowHistory("pattern_history", None, 0, lambda: inf),
                    CatalogueFixture().catalogue,
                    caller_workspace,
                    lambda: 2.0,
                    AS_THEY_ARE,
                ),
            )
            app.add_route("/summary", SummaryResource(read_model, lambda: 2.0))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:

                def switch_live_version(build: Build) -> None:
                    live_patterns.move_to(build, {LOG: SIZES[build]})

                switch_live_version(FIRST_BUILD)
                assert build_of(await api.get(path, headers=header)) == FIRST_BUILD
                switches_during_request = 0
                for steps in range(10_000):
                    switch_live_version(FIRST_BUILD)
                    request = asyncio.create_task(api.get(path, headers=header))
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    if request.done():
                        break
                    switch_live_version(OTHER)
                    response = await request
                    assert response.status_code == 200, response.text
                    build = build_of(response)
                    assert response.headers["TickView-Position"] == f"{LOG}={SIZES[build]}"
                    switches_during_request += build == FIRST_BUILD
                assert switches_during_request > 5

    asyncio.run(test())
