"""The cache of answers: a cached answer equals a new answer after any changes, at any time and for any user."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

import falcon.testing
import httpx
import pytest
from falcon.asgi import App, Request, Response
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from projections.base import encode_row
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import Positions, ResultRow, RowQueries
from projections.versions import Build
from projections.workspaces import WorkspaceRow, Workspaces
from readapi.http.identities import Identity
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.http.responses import Encoded, encode
from readapi.patterns.answer_cache import MAX_ANSWERS, MAX_BYTES, MAX_REQUESTS, AnswerCache
from readapi.patterns.list_filters import CallerWorkspace
from readapi.patterns.overview import StatisticsResource, SummaryResource
from readapi.patterns.scan import ScanResource
from readapi.ports.read_models import LiveBuild
from readapi.read_models.as_of import RowHistory
from readapi.read_models.filter_parameters import AS_THEY_ARE
from readapi.replica.replica import Replica
from tests.catalogue import CatalogueFixture, symbol_row
from tests.pattern_queries import NOW, SYMBOLS, log_of_pattern, pattern_row, pattern_rows

PATHS = (
    "/scan",
    "/scan?confidence_min=0",
    "/scan?symbols=BRK&sort_by=symbol",
    "/scan?fields=full",
    "/stats",
    "/summary",
    "/scan?universe=u&confidence_min=0",
    "/scan?sectors=Energy&confidence_min=0",
    "/scan?symbols=APPL,BRK&rsi_range=0,100",
)

LIST = "0" * 32
LIST_PATHS = (f"/scan?watchlist={LIST}", f"/scan?preset={LIST}&confidence_min=0.1", f"/scan?preset={LIST}")


class LiveReplica:
    """A build of ``patterns`` that is always live. A test sets for how many seconds its store has been away."""

    def __init__(self, replica: Replica) -> None:
        self.current: LiveBuild[RowQueries[PatternRow]] = LiveBuild(Build(1, 1), replica, {"market-0": 1})
        self.seconds_away: float | None = None

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[RowQueries[PatternRow]] | None:
        del positions, timeout
        return self.current

    def age(self) -> float | None:
        return self.seconds_away


class StoredWorkspaces(dict[str, WorkspaceRow]):
    """A build of ``workspaces`` in memory that is always live."""

    def __init__(self) -> None:
        self.current: LiveBuild[Any] = LiveBuild(Build(1, 1), self, {"users": 1})

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[Any] | None:
        del positions, timeout
        return self.current

    async def get(self, user: str, now: float) -> ResultRow[WorkspaceRow] | None:  # type: ignore[override]
        del now
        row = super().get(user)
        return ResultRow(row, "users", 1, user) if row else None

    def put_lists(self, user: str, symbols: list[str]) -> None:
        """Put a watchlist, and a preset that refers to it. All users have the same ids of lists."""
        common: Any = {"name": "Tech", "created_at": 1.0, "updated_at": 1.0, "version": 1}
        watchlist: Any = {**common, "id": LIST, "symbols": symbols}
        preset: Any = {**common, "id": LIST, "parameters": {"watchlist": LIST, "confidence_min": len(symbols) / 10}}
        self[user] = WorkspaceRow(user, {LIST: watchlist}, {LIST: preset})


class IdentityFromHeader:
    """Middleware that reads the identity of the caller from the header X-User-ID."""

    async def process_request(self, req: Request, _resp: Response) -> None:
        req.context.identity = Identity(req.get_header("X-User-ID", required=True), frozenset())


class Api:
    """The resources of patterns with middleware, and a clock that a test sets."""

    def __init__(
        self, served: LiveReplica, workspaces: StoredWorkspaces, now: float, fixture: CatalogueFixture | None = None
    ) -> None:
        self.now = now
        catalogue = (fixture or CatalogueFixture()).catalogue
        lists = CallerWorkspace(ReadModel(Workspaces(), workspaces, 0))
        patterns = ReadModel(ActivePatterns(), served, 0, served)
        app = App(middleware=[RequestMetrics(CollectorRegistry()), IdentityFromHeader()])
        history = RowHistory("pattern_history", None, 0, lambda: inf)
        app.add_route("/scan", ScanResource(patterns, history, catalogue, lists, lambda: self.now, AS_THEY_ARE))
        app.add_route("/stats", StatisticsResource(patterns, catalogue, lambda: self.now))
        app.add_route("/summary", SummaryResource(patterns, lambda: self.now))
        self.app = app
        self._client = falcon.testing.TestClient(app)

    def get(self, path: str, user: str = "alice", **headers: str) -> Any:
        request_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self._client.simulate_get(path, headers={"X-User-ID": user, **request_headers})
        assert response.status_code in (200, 304)
        content = response.json if response.status_code == 200 else None
        if content:
            assert content.pop("performance")["source"] == "replica"
        return content, response.headers["etag"], response.headers.get("warning")


def total_of_scan(answer: Any) -> int:
    """Return the total of a scan, after a check that it is the number of rows."""
    total: int = answer["pagination"]["total"]
    assert len(answer["patterns"]) == total
    return total


def total_of_summary(answer: Any) -> int:
    """Return the total of a summary, after a check that the latest patterns are of the same moment."""
    total: int = answer["summary"]["total"]
    assert len(answer["summary"]["latest"]) == min(total, 5)
    return total


@pytest.mark.parametrize(("path", "total_of"), [("/scan", total_of_scan), ("/summary", total_of_summary)])
@pytest.mark.parametrize("event_loop_turns", range(8))
def test_a_change_during_a_request_invalidates_the_cached_answer(
    event_loop_turns: int, path: str, total_of: Callable[[Any], int]
) -> None:
    replica = Replica(ActivePatterns())
    api = Api(LiveReplica(replica), StoredWorkspaces(), NOW)

    def detect(number: int) -> None:
        row = pattern_row("AAPL", "Doji", "daily", NOW - number, 0.8)
        replica.put(log_of_pattern(row.id), [(row.id, encode_row(row, number))])

    async def test() -> None:
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"X-User-ID": "a"}) as client:
            for total in (2, 4, 6):
                detect(total - 1)
                request = asyncio.create_task(client.get(path))
                for _ in range(event_loop_turns):
                    await asyncio.sleep(0)
                detect(total)
                assert total_of((await request).json()) in (total - 1, total)
                assert total_of((await client.get(path)).json()) == total

    asyncio.run(test())


USERS = ("alice", "bob")

steps = st.one_of(
    st.tuples(st.just("put_row"), pattern_rows),
    st.tuples(st.just("remove_row"), pattern_rows),
    st.tuples(st.just("move_clock"), st.sampled_from((0.0, 0.3, 0.7, 1.0, 61.0, -1.0))),
    st.tuples(st.just("set_seconds_away"), st.sampled_from((None, None, 2.5, 3.5))),
    st.tuples(st.just("define_universe"), st.lists(st.sampled_from(SYMBOLS), max_size=3)),
    st.tuples(st.just("move_to_energy"), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("request"), st.sampled_from(PATHS)),
    st.tuples(st.just("request"), st.sampled_from(PATHS[-3:])),
    st.tuples(st.just("request"), st.sampled_from(PATHS[:2])),
    st.tuples(st.just("request"), st.sampled_from(LIST_PATHS)),
    st.tuples(st.just("put_lists"), st.tuples(st.sampled_from(USERS), st.lists(st.sampled_from(SYMBOLS), max_size=2))),
)
"""Steps of a test: the name of a method of :class:`ServedPatterns`, and its argument."""


class ServedPatterns:
    """An API with a cache, and the data that it serves. Each step changes data or compares answers."""

    def __init__(self, rows: list[PatternRow]) -> None:
        self._replica = Replica(ActivePatterns())
        self._served, self._workspaces = LiveReplica(self._replica), StoredWorkspaces()
        for user in USERS:
            self._workspaces.put_lists(user, [])
        self._fixture = CatalogueFixture(
            [symbol_row("AAPL", sector="Energy"), symbol_row("BRK", sector="Energy")], {"u": SYMBOLS[:4]}
        )
        self._api = Api(self._served, self._workspaces, NOW - 2, self._fixture)
        for row in rows:
            self._put(row.id, encode_row(row, 1))

    def _put(self, key: str, document: bytes | None) -> None:
        self._replica.put(log_of_pattern(key), [(key, document)])

    def put_row(self, row: PatternRow) -> None:
        self._put(row.id, encode_row(row, 2))

    def remove_row(self, row: PatternRow) -> None:
        self._put(row.id, None)

    def move_clock(self, seconds: float) -> None:
        self._api.now += seconds

    def set_seconds_away(self, seconds: float | None) -> None:
        self._served.seconds_away = seconds

    def define_universe(self, symbols: list[str]) -> None:
        self._fixture.put_universe("u", *symbols)

    def move_to_energy(self, symbol: str) -> None:
        self._fixture.put_symbols(symbol_row("BRK", sector="Health"), symbol_row(symbol, sector="Energy"))

    def put_lists(self, user_and_symbols: tuple[str, list[str]]) -> None:
        self._workspaces.put_lists(*user_and_symbols)

    def request(self, path: str) -> None:
        """Compare the answers of this API, and its validation of an ETag, with an API without cached answers."""
        for user in USERS:
            expected = Api(self._served, self._workspaces, self._api.now, self._fixture).get(path, user)
            assert [self._api.get(path, user) for _ in range(3)] == [expected] * 3
            assert self._api.get(path, user, If_None_Match=expected[1]) == (None, *expected[1:])


@settings(max_examples=60, deadline=None)
@given(st.lists(pattern_rows, max_size=10), st.lists(steps, min_size=5, max_size=25))
def test_a_cached_answer_equals_a_new_answer(rows: list[PatternRow], steps: list[tuple[str, Any]]) -> None:
    served = ServedPatterns(rows)
    for step, value in steps:
        getattr(served, step)(value)


def test_a_cached_answer_is_returned_without_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(ActivePatterns())
    api = Api(LiveReplica(replica), StoredWorkspaces(), NOW)
    first = api.get("/scan")
    assert api.get("/scan") == first
    monkeypatch.setattr(Replica, "page", None)
    assert api.get("/scan") == first


def test_a_first_request_is_not_noted_as_repeated() -> None:
    cache = AnswerCache()
    repeated = [cache.note_request(request) for request in ("a", "b", "a", "b", "c")]
    assert repeated == [False, False, True, True, False]
    for number in range(MAX_REQUESTS):
        cache.note_request(str(number))
    assert not cache.note_request("a")


def test_the_cache_is_bounded_in_answers_and_bytes() -> None:
    cache = AnswerCache()
    answer = encode({"patterns": []})
    for number in range(MAX_ANSWERS + 5):
        cache.put("state", str(number), answer)
    assert cache.get("state", "4") is None
    assert cache.get("state", "5") == answer
    assert cache.get("state", str(MAX_ANSWERS + 4)) == answer
    large = Encoded(b"x" * (MAX_BYTES // 2), "tag")
    for request in ("a", "b", "b", "c"):
        cache.put("large", request, large)
    assert [cache.get("large", request) for request in "abc"] == [None, large, large]
    cache.put("other", "0", answer)
    assert cache.get("state", "0") is None
    assert cache.get("other", "0") == answer
