"""A remembered answer is what would be answered anew, whatever has changed, however long ago, and whoever asks."""

import asyncio
from typing import Any

import falcon.testing
import httpx
import pytest
from falcon.asgi import App, Request, Response
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from projections.base import encode_row
from projections.patterns import PatternRow
from projections.queries import PatternQueries, Positions, ResultRow, WorkspaceQueries
from projections.versions import Build
from projections.workspaces import WorkspaceRow
from readapi.http.identities import Identity
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.http.responses import Encoded, encode
from readapi.patterns.answer_cache import MAX_ANSWERS, MAX_BYTES, MAX_REQUESTS, AnswerCache
from readapi.patterns.as_of import PatternHistory
from readapi.patterns.list_filters import CallerWorkspace
from readapi.patterns.overview import StatisticsResource, SummaryResource
from readapi.patterns.scan import ScanResource
from readapi.ports.read_models import LiveBuild
from readapi.replica.replica import PatternReplica
from tests.catalogue import CatalogueFixture, symbol_row
from tests.pattern_queries import NOW, SYMBOLS, log_of_pattern, pattern_row, pattern_rows

PATHS = (
    "/scan",
    "/scan?confidence_min=0",
    "/scan?symbols=BRK&sort_by=symbol",
    "/scan?fields=full",
    "/stats",
    "/summary",
    "/scan?universe=some&confidence_min=0",
    "/scan?sectors=Energy&confidence_min=0",
)

LIST = "0" * 32
OWN = (f"/scan?watchlist={LIST}", f"/scan?preset={LIST}&confidence_min=0.1", f"/scan?preset={LIST}")


class Served:
    """One build that is always live, and a store that is away for as long as it is told."""

    def __init__(self, replica: PatternReplica) -> None:
        self.current: LiveBuild[PatternQueries] = LiveBuild(Build(1, 1), replica, {"market-0": 1})
        self.away: float | None = None

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[PatternQueries] | None:
        del positions, timeout
        return self.current

    def age(self) -> float | None:
        return self.away


class Workspaces(dict[str, WorkspaceRow]):
    """The one build of the lists, in memory, always live."""

    def __init__(self) -> None:
        self.current: LiveBuild[WorkspaceQueries] = LiveBuild(Build(1, 1), self, {"users": 1})

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[WorkspaceQueries] | None:
        del positions, timeout
        return self.current

    async def get(self, user: str) -> ResultRow[WorkspaceRow] | None:  # type: ignore[override]
        row = super().get(user)
        return ResultRow(row, "users", 1) if row else None

    def keep(self, user: str, symbols: list[str]) -> None:
        """The user's list, and a preset that names it: of the same ids as those of others."""
        common: Any = {"name": "Tech", "created_at": 1.0, "updated_at": 1.0, "version": 1}
        watchlist: Any = {**common, "id": LIST, "symbols": symbols}
        preset: Any = {**common, "id": LIST, "parameters": {"watchlist": LIST, "confidence_min": len(symbols) / 10}}
        self[user] = WorkspaceRow(user, {LIST: watchlist}, {LIST: preset})


class Named:
    """Middleware that takes everybody for who they say they are."""

    async def process_request(self, req: Request, _resp: Response) -> None:
        req.context.identity = Identity(req.get_header("X-User-ID", required=True), frozenset())


class Api:
    """The resources as they are served, by a clock that is set by hand."""

    def __init__(
        self, served: Served, workspaces: Workspaces, now: float, known: CatalogueFixture | None = None
    ) -> None:
        self.now = now
        catalogue = (known or CatalogueFixture()).catalogue
        lists = CallerWorkspace(ReadModel("workspaces", workspaces, 0, family="users"))
        patterns = ReadModel("patterns", served, 0, served)
        app = App(middleware=[RequestMetrics(CollectorRegistry()), Named()])
        app.add_route("/scan", ScanResource(patterns, PatternHistory(None, 0), catalogue, lists, lambda: self.now))
        app.add_route("/stats", StatisticsResource(patterns, lambda: self.now))
        app.add_route("/summary", SummaryResource(patterns, lambda: self.now))
        self.app = app
        self._client = falcon.testing.TestClient(app)

    def get(self, path: str, user: str = "alice", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._client.simulate_get(path, headers={"X-User-ID": user, **named})
        assert answer.status_code in (200, 304)
        content = answer.json if answer.status_code == 200 else None
        if content:
            assert content.pop("performance")["source"] == "replica"
        return content, answer.headers["etag"], answer.headers.get("warning")


@pytest.mark.parametrize("turns", range(8))
def test_what_changes_while_others_have_their_turn_is_not_missed(turns: int) -> None:
    replica = PatternReplica()
    api = Api(Served(replica), Workspaces(), NOW)

    def detect(number: int) -> None:
        row = pattern_row("AAPL", "Doji", "daily", NOW - number, 0.8)
        replica.put(log_of_pattern(row.id), [(row.id, encode_row(row, number))])

    async def test() -> None:
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"X-User-ID": "a"}) as client:
            for total in (2, 4, 6):
                detect(total - 1)
                asked = asyncio.create_task(client.get("/scan"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                detect(total)
                answer = (await asked).json()
                assert len(answer["patterns"]) == answer["pagination"]["total"] in (total - 1, total)
                assert (await client.get("/scan")).json()["pagination"]["total"] == total

    asyncio.run(test())


USERS = ("alice", "bob")

steps = st.one_of(
    st.tuples(st.just("put"), pattern_rows),
    st.tuples(st.just("remove"), pattern_rows),
    st.tuples(st.just("clock"), st.sampled_from((0.0, 0.3, 0.7, 1.0, 61.0, -1.0))),
    st.tuples(st.just("away"), st.sampled_from((None, None, 2.5, 3.5))),
    st.tuples(st.just("define"), st.lists(st.sampled_from(SYMBOLS), max_size=3)),
    st.tuples(st.just("move"), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("ask"), st.sampled_from(PATHS)),
    st.tuples(st.just("ask"), st.sampled_from(PATHS[-2:])),
    st.tuples(st.just("ask"), st.sampled_from(PATHS[:2])),
    st.tuples(st.just("ask"), st.sampled_from(OWN)),
    st.tuples(st.just("keep"), st.tuples(st.sampled_from(USERS), st.lists(st.sampled_from(SYMBOLS), max_size=2))),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(pattern_rows, max_size=10), st.lists(steps, min_size=5, max_size=25))
def test_it_is_what_would_be_answered_anew(rows: list[PatternRow], steps: list[tuple[str, Any]]) -> None:
    replica = PatternReplica()
    served, workspaces = Served(replica), Workspaces()
    for user in USERS:
        workspaces.keep(user, [])
    known = CatalogueFixture(
        [symbol_row("AAPL", sector="Energy"), symbol_row("BRK", sector="Energy")], {"some": SYMBOLS[:4]}
    )
    api = Api(served, workspaces, NOW - 2, known)
    for row in rows:
        replica.put(log_of_pattern(row.id), [(row.id, encode_row(row, 1))])
    for step, value in steps:
        if step in ("put", "remove"):
            replica.put(log_of_pattern(value.id), [(value.id, encode_row(value, 2) if step == "put" else None)])
        elif step == "clock":
            api.now += value
        elif step == "away":
            served.away = value
        elif step == "define":
            known.put_universe("some", *value)
        elif step == "move":
            known.put_symbols(symbol_row("BRK", sector="Health"), symbol_row(value, sector="Energy"))
        elif step == "keep":
            workspaces.keep(*value)
        else:
            for user in USERS:
                expected = Api(served, workspaces, api.now, known).get(value, user)
                assert [api.get(value, user) for _ in range(3)] == [expected] * 3
                assert api.get(value, user, If_None_Match=expected[1]) == (None, *expected[1:])


def test_an_answer_that_is_remembered_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = PatternReplica()
    api = Api(Served(replica), Workspaces(), NOW)
    first = api.get("/scan")
    assert api.get("/scan") == first
    monkeypatch.setattr(PatternReplica, "scan", None)
    assert api.get("/scan") == first


def test_what_is_asked_once_is_not_remembered() -> None:
    remembered = AnswerCache()
    asked = [remembered.note_request(question) for question in ("a", "b", "a", "b", "c")]
    assert asked == [False, False, True, True, False]
    for number in range(MAX_REQUESTS):
        remembered.note_request(str(number))
    assert not remembered.note_request("a")


def test_no_more_than_so_many_are_remembered() -> None:
    remembered = AnswerCache()
    answer = encode({"patterns": []})
    for number in range(MAX_ANSWERS + 5):
        remembered.put("state", str(number), answer)
    assert remembered.get("state", "4") is None
    assert remembered.get("state", "5") == answer
    assert remembered.get("state", str(MAX_ANSWERS + 4)) == answer
    large = Encoded(b"x" * (MAX_BYTES // 2), "tag")
    for question in ("a", "b", "b", "c"):
        remembered.put("large", question, large)
    assert [remembered.get("large", question) for question in "abc"] == [None, large, large]
    remembered.put("other", "0", answer)
    assert remembered.get("state", "0") is None
    assert remembered.get("other", "0") == answer
