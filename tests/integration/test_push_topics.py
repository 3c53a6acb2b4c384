"""Live push of any read model: topics, their parameters, fields and scopes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from domain.events import HealthReported
from projections.base import Projection
from projections.columns import Column
from projections.producers import ProducerRow
from projections.registry import READ_MODELS
from projections.symbols import SymbolRow
from readapi.ports.commits import CommitId
from tests.integration.push_server import PushServer, detection_commit, receive, running_push_server
from tests.plain_http import PLAIN_HTTP
from tests.push import BUILD, commit_of


@dataclass(frozen=True)
class SignalRow:
    """A signal."""

    name: str
    """Name of the signal."""
    confidence: Annotated[float, Column(range=True)]
    """Confidence in per cent."""


class Signals(Projection[SignalRow, HealthReported]):
    """A read model with a column that ``patterns`` has, too."""

    name = "signals"
    version = 1
    row = SignalRow
    handles = (HealthReported,)
    key = "name"


class Audits(Signals):
    """A read model for operators."""

    name = "audits"
    scope = "operate"


PROJECTIONS = {**READ_MODELS, "signals": Signals(), "audits": Audits()}


@pytest.fixture
def server() -> Iterator[PushServer]:
    with running_push_server(projections=PROJECTIONS) as server:
        yield server


def deliver_producer(server: PushServer, position: int, **values: Any) -> ProducerRow:
    row = ProducerRow(**{"source": "p", "status": "healthy", "reported_at": 900.0, **values})
    server.deliver(commit_of("market-0", position, (row.source, None, row), knows_old=False), "producers")
    return row


def test_a_client_receives_the_rows_of_any_read_model_that_match(server: PushServer) -> None:
    path = "topics=symbols,producers&status=HEALTHY&reports_min=2&sector=Energy"
    with server.websocket(f"/ws?{path}") as connection, server.event_stream(f"?{path}", "/api/stream") as events:
        assert receive(connection)["id"] == "producers:1.1/market-0=0-0;symbols:1.1/market-0=0-0"
        assert next(events)["type"] == "ready"
        deliver_producer(server, 1, source="healthy", reports=2)
        message = receive(connection)
        assert message["topic"] == "producers"
        assert message["changes"] == [
            {
                "op": "set",
                "row": {
                    "source": "healthy",
                    "status": "healthy",
                    "reported_at": 900.0,
                    "reports": 2,
                    "metrics": {},
                    "event_id": "",
                    "extra": {},
                    "unmatched_expiries": 0,
                    "position": "market-0=1",
                },
            }
        ]
        assert next(events) == message
        # The process does not know the rows before. A client ignores the removal of a row that it does not have.
        deliver_producer(server, 2, source="new", reports=1)
        assert receive(connection)["changes"] == [{"op": "remove", "id": "new"}]
        for position, sector in ((1, "Health"), (2, "Energy")):
            row = SymbolRow(f"S{position}", 1.0, 1.0, sector=sector)
            server.deliver(commit_of("market-0", position, (row.symbol, None, row)), "symbols")
        message = receive(connection)
        assert [change["row"]["symbol"] for change in message["changes"]] == ["S2"]
        last_id = message["id"]
    deliver_producer(server, 3, source="later", reports=9)
    with server.websocket(f"/ws?{path}&last_event_id={last_id}") as connection:
        assert receive(connection)["resumed"] is True
        assert receive(connection)["changes"][0]["row"]["source"] == "later"


def test_each_topic_sends_the_requested_fields_that_it_has(server: PushServer) -> None:
    with server.websocket("/ws?topics=patterns,producers,symbols&fields=full,source,status") as connection:
        assert receive(connection)["type"] == "ready"
        documents: dict[str, dict[str, Any]] = {}
        deliver_producer(server, 1)
        server.deliver(detection_commit(1)[1])
        symbol = SymbolRow("S1", 1.0, 1.0)
        server.deliver(commit_of("market-0", 1, ("S1", None, symbol)), "symbols")
        while len(documents) < 3:
            message = receive(connection)
            documents[message["topic"]] = message["changes"][0]
        assert documents["producers"]["row"] == {"source": "p", "status": "healthy"}
        assert documents["patterns"]["pattern"]["confidence"] == 0.8
        assert documents["symbols"]["row"].keys() > {"symbol", "industry", "position"}


def test_a_parameter_has_the_meaning_of_each_topic(server: PushServer) -> None:
    with server.websocket("/ws?topics=signals,patterns&confidence_min=1") as connection:
        assert receive(connection)["type"] == "ready"
        signals = [("low", None, SignalRow("low", 0.5)), ("high", None, SignalRow("high", 50.0))]
        server.deliver(commit_of("market-0", 1, *signals), "signals")
        assert [change["row"]["name"] for change in receive(connection)["changes"]] == ["high"]
    with server.websocket("/ws?topics=signals&confidence_min=60") as connection:
        assert receive(connection)["type"] == "ready"
    assert refusal(server, "topics=signals,patterns&confidence_min=60")["errors"][0]["field"] == "confidence_min"


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("topics=symbols&reports_min=2", "reports_min", "is not a parameter of the requested topics (symbols); known:"),
        ("topics=symbols&active=maybe", "active[0]", "should be 'true' or 'false', and is 'maybe'"),
        ("topics=symbols&market_cap_min=big", "market_cap_min", "should be a number, and is 'big'"),
        ("topics=symbols,producers&fields=symbol,full", "fields[1]", "and is 'full'"),
        ("topics=workspaces", "topics[0]", "'symbols'"),
    ],
)
def test_wrong_parameters_are_refused_with_the_known_ones(
    server: PushServer, query: str, field: str, reason: str
) -> None:
    [error] = refusal(server, query)["errors"]
    assert error["field"] == field
    assert reason in error["reason"]


def test_a_topic_for_operators_needs_their_scope(server: PushServer) -> None:
    with server.websocket("/ws?topics=audits,symbols") as connection:
        assert receive(connection)["type"] == "ready"
    server.scopes = {"read"}
    assert refusal(server, "topics=audits,symbols")["scope"] == "operate"
    with server.websocket("/ws?topics=symbols") as connection:
        assert receive(connection)["type"] == "ready"


def test_topics_whose_ids_would_be_too_long_need_several_connections(server: PushServer) -> None:
    logs = {f"market-{number}": CommitId(10**9) for number in range(64)}
    for name in ("patterns", "backtests", "producers", "symbols", "universes"):
        server.run_in_loop(server.hub.listeners[name].start_build, BUILD, logs)
    with server.websocket("/ws") as connection:
        while len(receive(connection)["id"]) < 2_000:
            pass
    [error] = refusal(server, "topics=patterns,backtests,producers,symbols,universes")["errors"]
    assert error["field"] == "topics"
    assert "too many for one connection" in error["reason"]


def refusal(server: PushServer, query: str) -> dict[str, Any]:
    """Return the problem with which both transports refuse the query parameters."""
    with pytest.raises(InvalidStatus) as refused, server.websocket(f"/ws?{query}"):
        pass
    problem: dict[str, Any] = httpx.get(f"http://127.0.0.1:{server.port}/api/stream?{query}", verify=PLAIN_HTTP).json()
    assert orjson.loads(bytes(refused.value.response.body or b"")) == problem
    return problem
