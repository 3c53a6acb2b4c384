"""A switch at any moment of a request: what is answered is from one build alone, on a real Valkey.

The request goes through the real resource, over and over; each time another build goes live one step of it later.
"""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from falcon.asgi import App
from prometheus_client import CollectorRegistry
from redis import Redis

from infra.read_models.pattern_queries import RedisPatternQueries
from infra.read_models.queries import RedisWorkspaceQueries
from infra.redis.connections import connect_async
from infra.serving.live_read_model import LiveReadModel
from projections.patterns import ActivePatterns, PatternRow, pattern_id
from projections.versions import Build
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.patterns.as_of import PatternHistory
from readapi.patterns.list_filters import CallerWorkspace
from readapi.patterns.overview import SummaryResource
from readapi.patterns.scan import ScanResource
from tests.catalogue import CatalogueFixture
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter

LOG = "market-0"
OTHER = Build(1, 2)
SIZES = {FIRST_BUILD: 3, OTHER: 8}
"""How many patterns each build has, and how far it is folded."""


def rows_of(build: Build) -> dict[str, PatternRow]:
    """The same symbols, with confidences of each build's own."""
    confidence = 0.5 + build.number / 10
    rows = {}
    for number in range(SIZES[build]):
        key = pattern_id(f"S{number}", "Doji", "daily", 1.0)
        rows[key] = PatternRow(key, f"S{number}", "Doji", "daily", confidence, 1.0, 1.0)
    return rows


def scanned(response: httpx.Response) -> Build:
    """The build that a scan names, after all of it has been held to that."""
    content = response.json()
    build = Build.parse(content["cache_info"]["build"])
    assert {row["conf"] for row in content["patterns"]} == {0.5 + build.number / 10}
    assert content["pagination"]["total"] == len(content["patterns"]) == SIZES[build]
    return build


def summarised(response: httpx.Response) -> Build:
    """The build that a summary's total is of, after all of it has been held to that."""
    summary = response.json()["summary"]
    [build] = [build for build, size in SIZES.items() if size == summary["total"]]
    for part in ("most_confident", "latest"):
        assert {row["conf"] for row in summary[part]} == {0.5 + build.number / 10}
        assert len(summary[part]) == min(5, SIZES[build])
    return build


@pytest.mark.parametrize(("path", "build_of"), [("/scan", scanned), ("/summary", summarised)])
@pytest.mark.parametrize("header", [{}, {"TickView-Min-Position": f"{LOG}=3"}])
def test_an_answer_is_of_one_build(
    redis: Redis, redis_url: str, path: str, build_of: Callable[[httpx.Response], Build], header: dict[str, str]
) -> None:
    for build in SIZES:
        SegmentWriter(redis, ActivePatterns(), LOG, build).put(rows_of(build))

    async def test() -> None:
        async with connect_async(redis_url) as client:
            followed = LiveReadModel("patterns", 1, [LOG], lambda build: RedisPatternQueries(client, build, [LOG]))
            read_model = ReadModel("patterns", followed, wait_seconds=60)
            app = App(middleware=[RequestMetrics(CollectorRegistry())])
            users = LiveReadModel(
                "workspaces", 1, ["users"], lambda build: RedisWorkspaceQueries(client, build, ["users"])
            )
            lists = CallerWorkspace(ReadModel("workspaces", users, wait_seconds=60, family="users"))
            app.add_route(
                "/scan",
                ScanResource(read_model, PatternHistory(None, 0), CatalogueFixture().catalogue, lists, lambda: 2.0),
            )
            app.add_route("/summary", SummaryResource(read_model, lambda: 2.0))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:

                def switch_live_version(build: Build) -> None:
                    followed.move_to(build, {LOG: SIZES[build]})

                switch_live_version(FIRST_BUILD)
                assert build_of(await api.get(path, headers=header)) == FIRST_BUILD
                switched_meanwhile = 0
                for moments in range(10_000):
                    switch_live_version(FIRST_BUILD)
                    request = asyncio.create_task(api.get(path, headers=header))
                    for _ in range(moments):
                        await asyncio.sleep(0)
                    if request.done():
                        break
                    switch_live_version(OTHER)
                    response = await request
                    assert response.status_code == 200, response.text
                    build = build_of(response)
                    assert response.headers["TickView-Position"] == f"{LOG}={SIZES[build]}"
                    switched_meanwhile += build == FIRST_BUILD
                assert switched_meanwhile > 5

    asyncio.run(test())
