"""Refusals of plug-ins: a part that does not fit ends the start in one line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.event_types import EVENT_TYPES
from infra.plugins.loading import load_plugins
from infra.processes.errors import StartupError
from projections.registry import READ_MODELS
from tests.plugins import EVENT, PLUGIN, PLUGIN_2, READ_MODEL, PluginFolder, plugin_folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[PluginFolder]:
    with plugin_folder(tmp_path) as folder:
        yield folder


def refusal(*modules: str) -> str:
    """Load plug-ins that are refused. Return the message, which has one line."""
    with pytest.raises(StartupError) as refused:
        load_plugins(modules)
    message = str(refused.value)
    assert "\n" not in message
    return message


FIELD = "    symbol: str\n"

REFUSED_PARTS = {
    "a read model without name": ('name = "halts"', "", "Halts in halting (TICKVIEW_PLUGINS) has no name: "),
    "a read model without version": ("version = 1", "", "has no version: "),
    "a read model without row": ("row = Row", "", "has no row: "),
    "a read model without key": ('key = "symbol"', "", "has no key: "),
    "a read model without handles": ("handles = (Halted,)", "", "has no handles: "),
    "a read model without keys": ("def keys(", "def _keys(", "has no keys: "),
    "a read model without evolve": ("def evolve(", "def _evolve(", "has no evolve: "),
    "a row that can change": ("@dataclass(frozen=True)", "@dataclass", "has a row that is no frozen dataclass"),
    "a row that is no dataclass": ("@dataclass(frozen=True)\n", "", "has a row that is no frozen dataclass"),
    "a row with a reserved field": ("    halts: ", "    position: ", "has a row with the field position"),
    "a read model of no event": ("handles = (Halted,)", "handles = ()", "handles no event"),
    "a read model of an unknown event": ("(Halted,)\n", "(Event,)\n", "handles Event, which is no registered event"),
    "a bad name": ('name = "halts"', 'name = "Halts of today"', "has the name 'Halts of today': expected small"),
    "a bad version": ("version = 1", 'version = "1"', "has the version '1': expected a whole number"),
    "bad logs": ("version = 1", 'version, family = 1, "all"', "folds the logs 'all'"),
    "counts that are indexes": (
        "version = 1",
        'version, summaries = 1, (Index("a", score=len),)',
        "has summaries that are no tuple of Count",
    ),
    "counts in a list": ("version = 1", "version, summaries = 1, []", "has summaries that are no tuple of Count"),
    "two counts of one name": (
        "version = 1",
        'version, summaries = 1, (Count("a"), Count("a"))',
        "has the count a twice: give each count a name of its own",
    ),
    "a count with the name of a count by value": (
        "version = 1",
        'version, summaries = 1, (Count("by_symbol"),)',
        "has the count by_symbol twice",
    ),
    "a bad name of a count": (
        "version = 1",
        'version, summaries = 1, (Count("a b"),)',
        "has the count 'a b': expected",
    ),
    "a bad key": ('key = "symbol"', 'key = "the symbol"', "has the key 'the symbol': expected small letters"),
    "an order by no column": ('order = "halts"', 'order = "price"', "has the order 'price', which is no column of num"),
    "an order by texts": (
        'order = "halts"',
        'order = "symbol"',
        "has the order 'symbol', which is no column of numbers",
    ),
    "an order that the column does not allow": (
        "Column(range=True, sort=True)",
        "Column(range=True)",
        "has the order 'halts', which is no column of numbers that allows to sort",
    ),
    "an end by no column": ("version = 1", 'version, ends = 1, "price"', "ends rows by 'price', which is no column of"),
    "an end by texts": ("version = 1", 'version, ends = 1, "symbol"', "ends rows by 'symbol', which is no column of"),
    "ends without expiry": ("version = 1", 'version, ends = 1, "halts"', "but no expiry: define the method expiry"),
    "a view that is none": ("version = 1", 'version, views = 1, {"a": "halts"}', "the view 'a', which is no View"),
    "a view of an unknown column": (
        "version = 1",
        'version, views = 1, {"short": View(halts="halts", cost="price")}',
        "has the view 'short' of the column 'price', which the row does not have",
    ),
    "a history of rows that are merged": (
        "    def keys(",
        '    history = "halts_history"\n\n    def merge(self, row, other):\n        return row\n\n    def keys(',
        "has a history, but merges rows of several logs",
    ),
    "a history of another form": ("version = 1", 'version, history = 1, "halts"', "has the history 'halts': expected"),
    "a history of another read model": (
        "version = 1",
        'version, history = 1, "pattern_history"',
        "has the history pattern_history, which patterns already has",
    ),
    "a projection that cannot be created": (
        "    def keys(",
        "    def __init__(self, size):\n        pass\n\n    def keys(",
        "Halts in halting (TICKVIEW_PLUGINS) cannot be used: TypeError: ",
    ),
    "a taken name": (
        'name = "halts"',
        'name = "patterns"',
        "has the name patterns, which projections.patterns already uses",
    ),
    "a taken event type": (
        "Halted",
        "PatternDetected",
        "has the name PatternDetected, which domain.events already use",
    ),
    "a taken event type of users": ("Halted", "WatchlistCreated", "which domain.user_events already uses"),
    "an event without stream": ("def stream(", "def _stream(", "Halted in halting (TICKVIEW_PLUGINS) has no stream: "),
    "an event of a user": (
        "from domain.events import Event",
        "from domain.user_events import UserEvent as Event",
        "is an event of a user's workspace",
    ),
    "an event that can change": (FIELD, f"    model_config = {{'frozen': False}}\n{FIELD}", "is not frozen"),
    "a missing upcast": (FIELD, f"    class_version: ClassVar[int] = 2\n{FIELD}", "not the method upcast_v1_v2"),
    "a bad class_version": (FIELD, f"    class_version: ClassVar[int] = 0\n{FIELD}", "has the class_version 0"),
    "an upcast too many": (
        "    @property",
        "    def upcast_v1_v2(state): ...\n\n    @property",
        "has the method upcast_v1_v2, but its class_version is 1",
    ),
    "a taken channel": (
        '"exchange.halts", ',
        '"tickstock.health.status", ',
        "HALTS in halting (TICKVIEW_PLUGINS) has the name tickstock.health.status, which belongs to another channel",
    ),
    "a taken event type of the wire": ('"halted"', '"pattern_detected"', "has the event type pattern_detected, which"),
    "a name that is no tuple": ('("exchange.halts", "exchange.halts.eu")', '"exchange"', "has the names 'exchange'"),
    "a channel without builders": ('{"halted": halted}', "{}", "has no builder"),
    "a builder that is no function": ('{"halted": halted}', '{"halted": Halted.stream}', "or one that is no function"),
    "an event type in capitals": ('{"halted": halted}', '{"Halted": halted}', "has the event type 'Halted'"),
    "a batch without builder": (
        '{"halted": halted}',
        '{"halted": halted}, {"halts": Batch("items", item_type="other")}',
        "has the batch halts, whose items have no builder",
    ),
}
"""A part of the module -> its replacement, and the words of the refusal."""


@pytest.mark.parametrize(("old", "new", "message"), REFUSED_PARTS.values(), ids=REFUSED_PARTS)
def test_a_part_that_does_not_fit_is_refused(folder: PluginFolder, old: str, new: str, message: str) -> None:
    assert old in PLUGIN
    assert message in refusal(folder.write(PLUGIN.replace(old, new)))


def test_two_read_models_of_one_version_are_refused(folder: PluginFolder) -> None:
    twice = PLUGIN + READ_MODEL.replace("class Halts(", "class MoreHalts(").replace("class Row", "class OtherRow")
    assert refusal(folder.write(twice)) == (
        "MoreHalts in halting (TICKVIEW_PLUGINS) has the name halts and the version 1, "
        "as a class of halting already has."
    )


def two_versions(new_column: str, *order: int) -> str:
    """Return a module with two versions of a read model. The second has a new column."""
    newer = (
        READ_MODEL.replace("version = 1", "version = 2").replace("Row", "Row2").replace("class Halts(", "class Halts2(")
    )
    newer = newer.replace("sort=True)]\n", f"sort=True)]\n{new_column}")
    return EVENT + "".join({1: READ_MODEL, 2: newer}[version] for version in order)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_new_column_without_a_default_is_refused(folder: PluginFolder, order: tuple[int, int]) -> None:
    assert (
        "is kept beside another version of halts, but the new column cost of version 2 has no default: give it one"
    ) in refusal(folder.write(two_versions("    cost: float\n", *order)))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_new_column_with_a_default_is_accepted(folder: PluginFolder, order: tuple[int, int]) -> None:
    load_plugins([folder.write(two_versions("    cost: float = 0.0\n", *order))])
    assert READ_MODELS["halts"].version == 2


def test_a_read_model_of_another_package_is_refused(folder: PluginFolder) -> None:
    first = folder.write()
    second = folder.write(f"from halting import Halted\n{READ_MODEL.replace('version = 1', 'version = 2')}", "other")
    assert "has the name halts, which halting already uses: choose another name." in refusal(first, second)


def test_an_event_without_a_golden_schema_is_refused(folder: PluginFolder) -> None:
    assert refusal(folder.write(schema=False)) == (
        f"Halted in halting (TICKVIEW_PLUGINS) has no golden schema {folder.schema(1)}: "
        "write it with `tickview new event-schema halting:Halted`, and package the file."
    )
    assert "Halted" not in EVENT_TYPES


def test_an_event_with_another_schema_than_its_golden_file_is_refused(folder: PluginFolder) -> None:
    folder.write()
    message = refusal(folder.write(PLUGIN.replace("symbol: str", "symbol: str | None"), schema=False))
    assert message == (
        f"Halted in halting (TICKVIEW_PLUGINS) has another schema than {folder.schema(1)}: raise "
        "class_version to 2, write upcast_v1_v2, then run `tickview new event-schema halting:Halted`."
    )


def test_a_golden_schema_that_cannot_be_read_is_refused(folder: PluginFolder) -> None:
    name = folder.write()
    folder.schema(1).write_text("{")
    assert "Halted.v1.json that cannot be read: Expecting property name" in refusal(name)


def test_a_missing_golden_schema_of_an_older_version_is_refused(folder: PluginFolder) -> None:
    name = folder.write(PLUGIN_2)
    assert f"has no golden schema {folder.schema(1)}: restore the file." in refusal(name)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import nowhere", "which cannot be imported: ModuleNotFoundError: No module named 'nowhere'."),
        ("raise RuntimeError('two\\nlines')", "which cannot be imported: RuntimeError: two lines."),
        ("x = 1", "which defines no read model, no event and no channel."),
        (
            PLUGIN.replace("Column(equality=True)", "Column(range=True)"),
            (
                "which cannot be imported: ColumnError: Column symbol of Row has the kind text, which does not allow "
                "range."
            ),
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_refused(folder: PluginFolder, source: str, problem: str) -> None:
    assert refusal(folder.write(source, schema=False)) == f"TICKVIEW_PLUGINS names halting, {problem}"


def test_an_unknown_module_is_refused() -> None:
    assert refusal("no.such.module").startswith("TICKVIEW_PLUGINS names no.such.module, which cannot be imported: ")


ENTRY_POINTS = {
    "no module": ("events", "nowhere:Halted", "(halting 1.5) cannot be loaded: ModuleNotFoundError: "),
    "a column that its type does not allow": (
        "projections",
        "listing:Halts",
        "(halting 1.5) cannot be loaded: ColumnError: Column halts of Row has the kind json, which does not allow ra",
    ),
    "no attribute": ("events", "halting:Nothing", "(halting 1.5) cannot be loaded: AttributeError: "),
    "no event": ("events", "halting:Halts", "(halting 1.5): halting:Halts is no event class: "),
    "no channel": ("channels", "halting:Halts", "(halting 1.5): halting:Halts is no channel: "),
    "no projection": ("projections", "halting:HALTS", "(halting 1.5): halting:HALTS is no projection: "),
    "another class": ("projections", "halting:Row", "(halting 1.5): halting:Row is no projection: "),
    "no registered event": ("projections", "halting:Halts", "(halting 1.5): halting:Halts handles Halted, which is no"),
}


@pytest.mark.parametrize(("kind", "value", "message"), ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_an_entry_point_that_does_not_fit_is_refused(folder: PluginFolder, kind: str, value: str, message: str) -> None:
    folder.write()
    (folder.path / "listing.py").write_text(PLUGIN.replace("[int, ", "[list[int], "))
    folder.install(**{kind: value})
    assert refusal().startswith(f"The entry point mine in tickview.{kind} {message}")
