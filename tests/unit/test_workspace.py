"""The workspace aggregate: invariants hold after any commands, and its events alone rebuild its state."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.codec import decode, encode, topic_of
from domain.list_rules import (
    EMOJI_JOINER,
    InvalidListError,
    NameTakenError,
    NoSuchListError,
    OutdatedError,
    WorkspaceError,
    name_key,
    validate_name,
)
from domain.lists import Preset, PresetDraft, Watchlist
from domain.symbols import SYMBOL_RULE, is_symbol
from domain.user_events import WORKSPACE_EVENT_TYPES, UserEvent, UserForgotten
from domain.workspace import Stamp, Workspace
from projections.specification import Given
from projections.workspaces import WorkspaceRow, Workspaces
from tests.oracles.workspaces import apply_event, empty_workspace
from tests.strategies import user_events

FAMILY = ("👩\u200d👧", "👩👧", "\u200d")
"""An emoji of two parts and a joiner, its parts alone (another spelling of the name), and the joiner alone (empty)."""

NAMES = ("Tech", " tech ", "TECH", "Straße", "STRASSE", "é" * 80, "é" * 81, "", " ", "a\nb", "Banks", "ﬁnance", *FAMILY)
SYMBOLS = ("AAPL", "aapl", "BRK.B", "^GSPC", "", "A B", "MSFT\n", "X" * 33, "ß")
IDS = tuple("abcdefgh")

names = st.sampled_from(NAMES) | st.text(max_size=4)
symbols = st.lists(st.sampled_from(SYMBOLS) | st.text(max_size=3), max_size=3)
parameters = st.dictionaries(st.sampled_from(("confidence_min", "watchlist")), st.sampled_from(("a", "b", 0.5)))
expectations = st.none() | st.sets(st.integers(1, 4), max_size=2)
ids = st.sampled_from(IDS)
salts = st.sampled_from(("5a", "a5"))


def as_document(workspace: Workspace) -> dict[str, Any]:
    """Return the workspace as the read model must contain it."""
    return {
        "user": workspace.user,
        "watchlists": {key: as_json(item) for key, item in workspace.watchlists.items()},
        "presets": {key: as_json(item) for key, item in workspace.presets.items()},
        "default_preset": workspace.default_preset,
        "alerts": {key: as_json(item) for key, item in workspace.alerts.items()},
        "has_alerts": bool(workspace.alerts),
    }


def as_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def test_a_name_may_be_an_emoji() -> None:
    assert validate_name({}, FAMILY[0]) == FAMILY[0]


class Commands(RuleBasedStateMachine):
    """Random commands. Invariants compare the aggregate with a plain model of its events and with the read model."""

    def __init__(self) -> None:
        super().__init__()
        self.workspace = Workspace("alice")
        self.model = empty_workspace("alice")
        self.events: list[UserEvent] = []
        self.used_ids: set[str] = set()
        self.deleted: dict[str, Watchlist | Preset] = {}
        self.clock = 1_757_000_000.0

    def execute(self, command: Callable[[Stamp], None]) -> None:
        """Execute a command. It either produces events for all of its changes, or is refused and changes nothing."""
        self.clock += 1
        before = as_document(self.workspace), self.workspace.version
        try:
            command(Stamp("alice", self.clock))
        except WorkspaceError:
            assert (as_document(self.workspace), self.workspace.version) == before
            assert self.workspace.collect_events() == []
            return
        for event in self.workspace.collect_events():
            stored = decode(topic_of(type(event)), "", encode(event))
            assert stored == event
            self.events.append(event)
            self.model = apply_event(self.model, event)

    @rule(list_id=ids, name=names, symbols=symbols)
    def create_watchlist(self, list_id: str, name: str, symbols: list[str]) -> None:
        if list_id not in self.used_ids:
            self.execute(lambda stamp: self.workspace.create_watchlist(stamp, list_id, name, symbols))
            self.used_ids |= self.workspace.watchlists.keys()

    @rule(list_id=ids, name=names, symbols=symbols, expected=expectations)
    def change_watchlist(self, list_id: str, name: str, symbols: list[str], expected: set[int] | None) -> None:
        self.execute(lambda stamp: self.workspace.change_watchlist(stamp, list_id, name, symbols, expected))

    @rule(list_id=ids, expected=expectations)
    def delete_watchlist(self, list_id: str, expected: set[int] | None) -> None:
        self.save_before_deletion(list_id)
        self.execute(lambda stamp: self.workspace.delete_watchlist(stamp, list_id, expected))

    @rule(list_id=ids, name=names, parameters=parameters, default=st.booleans())
    def create_preset(self, list_id: str, name: str, parameters: dict[str, Any], default: bool) -> None:
        if list_id not in self.used_ids:
            self.execute(
                lambda stamp: self.workspace.create_preset(stamp, list_id, PresetDraft(name, parameters, default))
            )
            self.used_ids |= self.workspace.presets.keys()

    @rule(list_id=ids, name=names, parameters=parameters, default=st.booleans(), expected=expectations)
    def change_preset(
        self, list_id: str, name: str, parameters: dict[str, Any], default: bool, expected: set[int] | None
    ) -> None:
        self.execute(
            lambda stamp: self.workspace.change_preset(stamp, list_id, PresetDraft(name, parameters, default), expected)
        )

    @rule(list_id=ids, expected=expectations)
    def delete_preset(self, list_id: str, expected: set[int] | None) -> None:
        self.save_before_deletion(list_id)
        self.execute(lambda stamp: self.workspace.delete_preset(stamp, list_id, expected))

    @rule(list_id=ids, webhook=st.none() | st.just("https://example.com/"), salt=salts, expected=expectations)
    def set_alert(self, list_id: str, webhook: str | None, salt: str, expected: set[int] | None) -> None:
        self.execute(lambda stamp: self.workspace.set_alert(stamp, list_id, webhook, salt, expected))

    @rule(list_id=ids, expected=expectations)
    def remove_alert(self, list_id: str, expected: set[int] | None) -> None:
        self.execute(lambda stamp: self.workspace.remove_alert(stamp, list_id, expected))

    @rule(list_id=ids, name=st.none() | names)
    def restore(self, list_id: str, name: str | None) -> None:
        if list_id in self.deleted:
            self.execute(lambda stamp: self.workspace.restore(stamp, self.deleted[list_id], name))

    def save_before_deletion(self, list_id: str) -> None:
        if item := self.workspace.get(list_id):
            self.deleted[list_id] = item

    @invariant()
    def the_events_rebuild_the_workspace(self) -> None:
        assert as_document(self.workspace) == self.model
        assert self.workspace.version == len(self.events)
        rebuilt = Workspace("alice")
        for event in self.events:
            rebuilt.apply(event)
        assert (as_document(rebuilt), rebuilt.version) == (self.model, len(self.events))

    @invariant()
    def the_read_model_equals_the_workspace(self) -> None:
        rows = Given(Workspaces(), *self.events).rows()
        assert {user: as_json(row) for user, row in rows.items()} == ({"alice": self.model} if self.events else {})

    @invariant()
    def lists_are_valid(self) -> None:
        for lists in (self.workspace.watchlists, self.workspace.presets):
            list_names = [item.name for item in lists.values()]
            assert len({name_key(name) for name in list_names}) == len(list_names)
            assert all(name == name.strip() and 1 <= len(name) <= 80 for name in list_names)
            assert all(name_key(name) and name.replace(EMOJI_JOINER, "").isprintable() for name in list_names)
        for watchlist in self.workspace.watchlists.values():
            assert len(set(watchlist.symbols)) == len(watchlist.symbols)
            assert all(map(is_symbol, watchlist.symbols))
            assert not any(symbol.isascii() and symbol.islower() for symbol in watchlist.symbols)
        assert self.workspace.default_preset in (None, *self.workspace.presets)
        assert self.workspace.alerts.keys() <= self.workspace.presets.keys()


TestCommands = Commands.TestCase

AT = Stamp("alice", 1.0)


def alice() -> Workspace:
    workspace = Workspace("alice")
    workspace.create_watchlist(AT, "w", " Tech ", ["aapl", "BRK.B"])
    workspace.create_preset(AT, "p", PresetDraft("Strong", {"confidence_min": 0.8}, True))
    return workspace


def event_types(workspace: Workspace) -> list[str]:
    return [type(event).__name__ for event in workspace.collect_events()]


def test_names_are_trimmed_and_symbols_in_small_letters_become_capitals() -> None:
    watchlist = alice().watchlists["w"]
    assert (watchlist.name, watchlist.symbols, watchlist.version) == ("Tech", ("AAPL", "BRK.B"), 1)


def test_symbols_that_differ_in_case_are_different_symbols() -> None:
    workspace = Workspace("alice")
    workspace.create_watchlist(AT, "w", "Shares", ["TPC", "TpC", "/ES", "M&M.NS", "币安人生USDT"])
    assert workspace.watchlists["w"].symbols == ("TPC", "TpC", "/ES", "M&M.NS", "币安人生USDT")


def test_a_command_produces_one_event_per_change_and_none_without_a_change() -> None:
    workspace = alice()
    workspace.collect_events()
    workspace.change_watchlist(AT, "w", "Technology", ["MSFT"], {1})
    workspace.change_watchlist(AT, "w", "Technology", ["msft"], {3})
    assert event_types(workspace) == ["WatchlistRenamed", "WatchlistChanged"]


def test_a_new_default_preset_replaces_the_previous_default() -> None:
    workspace = alice()
    workspace.create_preset(AT, "q", PresetDraft("Weak", {}, True))
    assert workspace.default_preset == "q"
    assert {key: preset.version for key, preset in workspace.presets.items()} == {"p": 3, "q": 2}
    workspace.delete_preset(AT, "q")
    assert workspace.default_preset is None


def test_a_command_with_an_outdated_version_is_refused() -> None:
    workspace = alice()
    workspace.change_watchlist(AT, "w", "Technology", [], {1})
    with pytest.raises(OutdatedError, match="it is at version 3") as refused:
        workspace.delete_watchlist(AT, "w", {1, 2})
    assert refused.value.version == 3


def test_a_restored_list_has_its_former_content() -> None:
    workspace = alice()
    before = workspace.watchlists["w"]
    workspace.delete_watchlist(AT, "w")
    workspace.create_watchlist(AT, "v", "tech", [])
    with pytest.raises(NameTakenError, match="'Tech'"):
        workspace.restore(AT, before)
    workspace.restore(Stamp("operator", 2.0), before, "Tech again")
    assert asdict(workspace.watchlists["w"]) == {
        **asdict(before),
        "name": "Tech again",
        "updated_at": 2.0,
        "version": 2,
    }
    with pytest.raises(InvalidListError, match="w is not deleted"):
        workspace.restore(AT, before)


@pytest.mark.parametrize(
    ("invalid_symbols", "faults"),
    [
        (["AAPL", "aapl"], [("symbols[1]", "repeats AAPL, which is already symbols[0]")]),
        (["A" * 33], [("symbols[0]", f"{SYMBOL_RULE}, and is {'A' * 33!r}")]),
        ([f"S{number}" for number in range(1_001)], [("symbols", "should be at most 1,000 symbols, and are 1,001")]),
    ],
)
def test_invalid_symbols_are_refused_with_their_faults(
    invalid_symbols: list[str], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(InvalidListError) as refused:
        alice().create_watchlist(AT, "v", "Banks", invalid_symbols)
    assert refused.value.faults == faults


def test_a_refusal_names_at_most_ten_faults() -> None:
    with pytest.raises(InvalidListError) as refused:
        alice().create_watchlist(AT, "v", "Banks", ["a b"] * 1_000)
    assert [field for field, _ in refused.value.faults] == [f"symbols[{place}]" for place in range(10)]


def test_a_workspace_has_at_most_100_watchlists_and_100_presets() -> None:
    workspace = alice()
    for number in range(99):
        workspace.create_watchlist(AT, f"w{number}", f"{number}", [f"S{symbol}" for symbol in range(1_000)])
        workspace.create_preset(AT, f"p{number}", PresetDraft(f"{number}", {}, False))
    with pytest.raises(InvalidListError, match="watchlists have reached the limit of 100"):
        workspace.create_watchlist(AT, "v", "one more", [])
    with pytest.raises(InvalidListError, match="presets have reached the limit of 100"):
        workspace.create_preset(AT, "q", PresetDraft("one more", {}, False))
    deleted = workspace.watchlists["w"]
    workspace.delete_watchlist(AT, "w")
    workspace.create_watchlist(AT, "v", "one more", [])
    with pytest.raises(InvalidListError, match="watchlists have reached the limit of 100"):
        workspace.restore(AT, deleted)


def test_a_user_has_at_most_20_alerts_and_each_belongs_to_a_preset() -> None:
    workspace = alice()
    for number in range(21):
        workspace.create_preset(AT, f"p{number}", PresetDraft(f"{number}", {}, False))
    for number in range(20):
        workspace.set_alert(AT, f"p{number}", None, "5a")
    with pytest.raises(InvalidListError, match="alerts have reached the limit of 20"):
        workspace.set_alert(AT, "p20", None, "5a")
    workspace.set_alert(AT, "p0", "https://example.com/", "a5", {1})
    with pytest.raises(OutdatedError, match="version 2"):
        workspace.set_alert(AT, "p0", None, "a5", {1})
    workspace.delete_preset(AT, "p1")
    workspace.set_alert(AT, "p20", None, "5a")
    for preset in ("p1", "w"):
        with pytest.raises(NoSuchListError, match=preset):
            workspace.set_alert(AT, preset, None, "5a")


def test_a_renamed_preset_keeps_its_alert_and_a_restored_preset_has_none() -> None:
    workspace = alice()
    workspace.set_alert(AT, "p", None, "5a")
    workspace.change_preset(AT, "p", PresetDraft("Renamed", {}, False))
    assert workspace.alerts.keys() == {"p"}
    deleted = workspace.presets["p"]
    workspace.delete_preset(AT, "p")
    workspace.restore(AT, deleted)
    assert workspace.alerts == {}


def test_a_new_preset_refers_to_an_existing_watchlist() -> None:
    workspace = alice()
    workspace.create_preset(AT, "q", PresetDraft("Tech only", {"watchlist": "w"}, False))
    with pytest.raises(InvalidListError, match="one of this user's watchlists, and is 'v'"):
        workspace.create_preset(AT, "r", PresetDraft("Banks only", {"watchlist": "v"}, False))
    workspace.delete_watchlist(AT, "w")
    workspace.change_preset(AT, "q", PresetDraft("Renamed", {"watchlist": "w"}, False))
    assert workspace.presets["q"].name == "Renamed"


def events_of_each_type() -> list[UserEvent]:
    """Return the events of commands that produce every event type."""
    workspace = alice()
    workspace.change_watchlist(AT, "w", "Technology", ["MSFT"])
    workspace.change_preset(AT, "p", PresetDraft("Weak", {"rs_min": 1.0}, True))
    workspace.set_alert(AT, "p", "https://example.com/hook", "5a")
    workspace.remove_alert(AT, "p")
    deleted = workspace.watchlists["w"], workspace.presets["p"]
    workspace.delete_watchlist(AT, "w")
    workspace.delete_preset(AT, "p")
    for item in deleted:
        workspace.restore(AT, item)
    forgotten = UserForgotten(event_id="", occurred_at=2.0, source="operator", user="alice", generation=1)
    events = [*workspace.collect_events(), forgotten]
    assert {type(event) for event in events} == set(WORKSPACE_EVENT_TYPES)
    return events


@given(
    st.lists(
        st.sampled_from(events_of_each_type()) | user_events.filter(lambda event: event.user == "alice"), max_size=12
    )
)
def test_the_read_model_folds_any_events_in_any_order(history: list[UserEvent]) -> None:
    model = empty_workspace("alice")
    for event in history:
        model = apply_event(model, event)
    rows = Given(Workspaces(), *history).rows()
    has_row = bool(history) and not isinstance(history[-1], UserForgotten)
    assert rows == ({"alice": WorkspaceRow(**model)} if has_row else {})


def test_a_forgotten_user_starts_again_with_the_next_generation_of_keys() -> None:
    workspace = alice()
    workspace.collect_events()
    forgotten = UserForgotten(event_id="", occurred_at=2.0, source="operator", user="alice", generation=3)
    workspace.apply(forgotten)
    assert (as_document(workspace), workspace.generation) == (empty_workspace("alice"), 4)
    workspace.apply(forgotten.model_copy(update={"generation": 1}))
    assert (workspace.version, workspace.generation) == (5, 4)
    workspace.create_watchlist(AT, "v", "Tech", [])
    assert workspace.version == 6
