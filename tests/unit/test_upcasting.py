"""Upcasting, with an event type whose schema changed twice: every stored version is read as the current version."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import codec
from domain.event_types import EVENT_TYPES, register_event_type
from domain.events import Event
from domain.log import LogEntry
from projections.base import Projection
from projections.decoding import decode_entries
from projections.fold import LoadedState, fold
from projections.mutations import derive

TOPIC = codec.TOPIC_PREFIX + "Traded"


class TradedV1(Event):
    """The first version."""

    symbol: str
    lots: int = 1
    tags: list[str] = []


class TradedV2(Event):
    """The second version: ``symbol`` is named ``ticker``."""

    class_version: ClassVar[int] = 2
    ticker: str
    lots: int = 1
    tags: list[str] = []


class Traded(Event):
    """The current version: shares instead of lots, labels instead of tags, and a new note."""

    class_version: ClassVar[int] = 3
    ticker: str
    shares: int
    labels: dict[str, Any] = {}
    note: str | None = None

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["ticker"] = state.pop("symbol")

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        state["shares"] = state.pop("lots", 1) * 100
        state["labels"] = {"tags": state.pop("tags", [])}

    @property
    def stream(self) -> str:
        return f"symbol-{self.ticker}"


VERSIONS: tuple[type[Event], ...] = (TradedV1, TradedV2, Traded)


@pytest.fixture(autouse=True, scope="module")
def _register_traded() -> Iterator[None]:
    register_event_type(Traded)
    yield
    del EVENT_TYPES["Traded"]


@dataclass(frozen=True)
class TradeFact:
    """The content of an event, and the schema version in which it is stored."""

    ticker: str
    lots: int
    tags: list[str]
    version: int

    def stored_state(self, event_id: str) -> bytes:
        """Return the state as the release of the schema version stored it."""
        fields = {"event_id": event_id, "occurred_at": 1.5, "source": "test", "extra": {"lots": [1], "symbol": "x"}}
        if self.version == 1:
            return codec.encode(TradedV1(**fields, symbol=self.ticker, lots=self.lots, tags=self.tags))
        if self.version == 2:
            return codec.encode(TradedV2(**fields, ticker=self.ticker, lots=self.lots, tags=self.tags))
        return codec.encode(Traded(**fields, ticker=self.ticker, shares=self.lots * 100, labels={"tags": self.tags}))


facts = st.builds(
    TradeFact,
    ticker=st.sampled_from(("AAPL", "MSFT", "symbol")),
    lots=st.integers(0, 3),
    tags=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=2),
    version=st.integers(1, 3),
)


def test_each_release_stores_its_schema_version() -> None:
    states = [json.loads(TradeFact("AAPL", 2, [], version).stored_state("e")) for version in (1, 2, 3)]
    assert [state.get("class_version") for state in states] == [None, 2, 3]
    assert [state.keys() & {"symbol", "ticker", "lots", "shares"} for state in states] == [
        {"symbol", "lots"},
        {"ticker", "lots"},
        {"ticker", "shares"},
    ]


@given(facts)
def test_every_version_is_decoded_to_the_current_version(fact: TradeFact) -> None:
    event = codec.decode(TOPIC, "e", fact.stored_state("e"))
    assert event == Traded(
        event_id="e",
        occurred_at=1.5,
        source="test",
        extra={"lots": [1], "symbol": "x"},
        ticker=fact.ticker,
        shares=fact.lots * 100,
        labels={"tags": fact.tags},
    )


@given(facts)
def test_an_upcast_event_is_stored_in_the_current_version(fact: TradeFact) -> None:
    event = codec.decode(TOPIC, "e", fact.stored_state("e"))
    stored = codec.encode(event)
    assert json.loads(stored)["class_version"] == 3
    assert codec.decode(TOPIC, "e", stored) == event


@given(facts)
def test_two_decoded_events_share_no_objects(fact: TradeFact) -> None:
    state = fact.stored_state("e")
    first, second = codec.decode(TOPIC, "e", state), codec.decode(TOPIC, "e", state)
    untouched = deepcopy(second)
    first.labels["tags"].append("changed")
    first.labels["more"] = True
    first.extra["lots"].append(2)
    assert second == untouched
    assert codec.decode(TOPIC, "e", state) == untouched


@given(facts, st.integers(4, 1_000))
def test_a_newer_schema_version_is_refused(fact: TradeFact, version: int) -> None:
    state = orjson.dumps({**json.loads(fact.stored_state("e")), "class_version": version})
    with pytest.raises(ValueError, match=f"stored in schema version {version}, but .* up to version 3"):
        codec.decode(TOPIC, "e", state)


def test_an_invalid_old_state_is_refused() -> None:
    with pytest.raises(ValueError, match="ticker"):
        codec.decode(TOPIC, "e", b'{"occurred_at":1.0,"source":"s","ticker":7,"class_version":2}')


@dataclass(frozen=True, slots=True)
class HoldingRow:
    """The trades of one symbol."""

    shares: int
    tags: list[str]


class Holdings(Projection[HoldingRow, Traded]):
    """A projection that only uses the current schema."""

    name, version = "holdings", 1
    row = HoldingRow
    handles = (Traded,)

    def keys(self, event: Traded) -> tuple[str, ...]:
        return (event.ticker,)

    def evolve(self, row: HoldingRow | None, event: Traded) -> HoldingRow:
        before = row or HoldingRow(0, [])
        return HoldingRow(before.shares + event.shares, before.tags + event.labels["tags"])


@given(st.lists(facts, max_size=20))
def test_a_history_of_all_versions_folds_like_current_events(history: list[TradeFact]) -> None:
    entries = [
        LogEntry(
            position, f"symbol-{fact.ticker}", position, TOPIC, f"e{position}", 2.0, fact.stored_state(f"e{position}")
        )
        for position, fact in enumerate(history, 1)
    ]
    folded = fold(Holdings(), LoadedState(), decode_entries(Holdings(), entries))
    documents = derive(Holdings(), folded).rows
    assert folded.parked == []
    assert {key: json.loads(document or b"") for key, document in documents.items()} == {
        ticker: {
            "position": max(number for number, fact in enumerate(history, 1) if fact.ticker == ticker),
            "shares": sum(fact.lots for fact in history if fact.ticker == ticker) * 100,
            "tags": [tag for fact in history if fact.ticker == ticker for tag in fact.tags],
        }
        for ticker in {fact.ticker for fact in history}
    }


def test_an_event_of_a_newer_version_is_parked_and_others_are_folded() -> None:
    fact = TradeFact("AAPL", 1, [], 3)
    newer = orjson.dumps({**json.loads(fact.stored_state("e1")), "class_version": 4})
    entries = [
        LogEntry(1, "symbol-AAPL", 1, TOPIC, "e1", 2.0, newer),
        LogEntry(2, "symbol-MSFT", 1, TOPIC, "e2", 2.0, TradeFact("MSFT", 1, [], 1).stored_state("e2")),
    ]
    folded = fold(Holdings(), LoadedState(), decode_entries(Holdings(), entries))
    [parked] = folded.parked
    assert parked.entry.position == 1
    assert "version 4" in (parked.error or "")
    assert list(folded.after) == ["MSFT"]
