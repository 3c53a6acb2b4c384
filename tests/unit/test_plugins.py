"""Plug-ins: the parts of modules and of installed packages are registered, and work like TickView's own."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain import codec, wire
from domain.event_types import EVENT_TYPES
from domain.log import LogEntry
from domain.wire.channels import CHANNEL_OF, CHANNELS
from infra.plugins.loading import load_plugins
from infra.plugins.schemas import GoldenSchemaError, check_schema, write_schema
from projections.decoding import decode_entries
from projections.fingerprint import fingerprint
from projections.fold import LoadedState, fold
from projections.registry import FORMER, READ_MODELS
from tests.plugins import EVENT, PLUGIN, PLUGIN_2, READ_MODEL, PluginFolder, plugin_folder

PARTS = {"projections": "halting:Halts", "events": "halting:Halted", "channels": "halting:HALTS"}
"""The entry points of the module with all parts."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[PluginFolder]:
    with plugin_folder(tmp_path) as folder:
        yield folder


def test_a_module_is_searched_for_its_parts(folder: PluginFolder) -> None:
    load_plugins([folder.write()])
    halted = EVENT_TYPES["Halted"]
    assert READ_MODELS["halts"].handles == (halted,)
    assert CHANNELS["exchange.halts"] is CHANNELS["exchange.halts.eu"] is CHANNEL_OF["halted"]
    assert halted in READ_MODELS["activity"].handles


def test_an_installed_package_names_its_parts(folder: PluginFolder) -> None:
    folder.write()
    folder.install(**PARTS)
    load_plugins([])
    assert (READ_MODELS["halts"].version, "exchange.halts" in CHANNELS, "Halted" in EVENT_TYPES) == (1, True, True)


def test_loading_again_changes_nothing(folder: PluginFolder) -> None:
    name = folder.write()
    load_plugins([name])
    projection = READ_MODELS["halts"]
    folder.install(**PARTS)
    load_plugins([name, name])
    assert READ_MODELS["halts"] is projection
    assert projection not in FORMER


def test_names_with_an_underscore_and_classes_of_other_modules_are_no_parts(folder: PluginFolder) -> None:
    folder.write()
    private = PLUGIN.replace("class Halts(", "class _Halts(").replace("HALTS =", "_HALTS =")
    load_plugins([folder.write(f"{private}\nfrom halting import Halts\n", "other")])
    assert EVENT_TYPES["Halted"].__module__ == "other"
    assert not {"halts", "exchange.halts"} & {*READ_MODELS, *CHANNELS}


def test_a_package_may_import_its_parts_from_its_modules(folder: PluginFolder) -> None:
    folder.write("", "halting.__init__")
    folder.write(PLUGIN, "halting.parts")
    folder.write("from halting.parts import HALTS, Halted, Halts\n", "halting.__init__")
    load_plugins(["halting"])
    assert {"halts", "exchange.halts", "Halted"} <= {*READ_MODELS, *CHANNELS, *EVENT_TYPES}


def test_a_base_class_of_events_is_an_event_if_it_has_a_golden_schema(folder: PluginFolder) -> None:
    derived = "class HaltedByNews(Halted):\n    pass\n"
    name = folder.write(EVENT + derived + READ_MODEL.replace("(Halted,)", "(HaltedByNews,)"))
    folder.schema(1).unlink()
    load_plugins([name])
    assert {"Halted", "HaltedByNews"} & EVENT_TYPES.keys() == {"HaltedByNews"}
    write_schema(sys.modules[name].Halted)
    load_plugins([name])
    assert {"Halted", "HaltedByNews"} <= EVENT_TYPES.keys()


def test_an_instance_in_a_module_is_a_part(folder: PluginFolder) -> None:
    source = PLUGIN.replace("class Halts(", "class _Halts(") + "\nhalts = _Halts()\n"
    load_plugins([folder.write(source)])
    assert READ_MODELS["halts"] is sys.modules["halting"].halts


def test_the_highest_version_of_a_package_is_current_and_the_others_are_former(folder: PluginFolder) -> None:
    folder.write("", "halting.__init__")
    events = folder.write(EVENT, "halting.events")
    source = f"from halting.events import Halted\n{READ_MODEL}"
    modules = [
        folder.write(source.replace("version = 1", f"version = {version}"), f"halting.v{version}")
        for version in (2, 3, 1)
    ]
    load_plugins([events, *modules])
    assert READ_MODELS["halts"].version == 3
    assert [projection.version for projection in FORMER if projection.name == "halts"] == [2, 1]


def test_an_event_of_a_plugin_is_read_stored_and_folded(folder: PluginFolder) -> None:
    load_plugins([folder.write()])
    [event], refusals, *_ = wire.read("exchange.halts.eu", b'{"symbol": "AAPL", "venue": "XNAS"}', 5.0)
    assert (event.stream, event.extra, refusals) == ("halt-AAPL", {"venue": "XNAS"}, ())
    assert wire.channel_for({"event_type": "HALTED"}) == "exchange.halts"
    topic = codec.topic_of(type(event))
    assert topic == "domain.events:Halted"
    entry = LogEntry(1, event.stream, 1, topic, event.event_id, 6.0, codec.encode(event))
    for name, rows in (("halts", {"AAPL"}), ("activity", {"1970-01-01/Halted/test"})):
        projection = READ_MODELS[name]
        assert fold(projection, LoadedState(), decode_entries(projection, [entry])).after.keys() == rows


def test_a_batch_of_a_plugin_is_read(folder: PluginFolder) -> None:
    batches = '{"halted": halted}, {"halts": Batch("items", item_type="halted")}'
    load_plugins([folder.write(PLUGIN.replace('{"halted": halted}', batches))])
    payload = b'{"event_type": "halts", "items": [{"symbol": "A"}, {"symbol": 1}, {"symbol": "B"}]}'
    events, refusals, *_ = wire.read("exchange.halts", payload, 5.0)
    assert [event.stream for event in events] == ["halt-A", "halt-B"]
    [refused] = refusals
    assert refused.code == "invalid-event"
    assert refused.reason.startswith("items[1]: symbol of Halted is invalid: ")


def test_events_of_older_schema_versions_are_upcast(folder: PluginFolder) -> None:
    folder.write()
    load_plugins([folder.write(PLUGIN_2)])
    assert folder.schema(1).exists()
    assert folder.schema(2).exists()
    event = codec.decode("domain.events:Halted", "1", b'{"occurred_at":1.0,"source":"s","symbol":"A"}')
    assert event.model_dump()["reason"] == "unknown"


def test_a_change_of_prose_keeps_the_schema(folder: PluginFolder) -> None:
    folder.write()
    name = folder.write(PLUGIN.replace('"""A halt."""', '"""The trading of a symbol is halted."""'), schema=False)
    check_schema(importlib.import_module(name).Halted)


def test_an_existing_golden_schema_is_not_overwritten(folder: PluginFolder) -> None:
    halted = importlib.import_module(folder.write()).Halted
    assert write_schema(halted) == folder.schema(1)
    folder.schema(1).write_text("{}")
    with pytest.raises(GoldenSchemaError, match="has another schema"):
        write_schema(halted)
    assert folder.schema(1).read_text() == "{}"


def test_a_fingerprint_covers_the_modules_of_the_package_except_those_of_events(folder: PluginFolder) -> None:
    def fingerprint_of(name: str, event: str, step: str) -> str:
        folder.write("", f"{name}.__init__")
        folder.write(event, f"{name}.events")
        folder.write(f"STEP = {step}", f"{name}.steps")
        source = f"from {name}.events import Halted\nfrom {name}.steps import STEP\n{READ_MODEL}"
        module = folder.write(source.replace("row.halts + 1", "row.halts + STEP"), f"{name}.read_model")
        return fingerprint(importlib.import_module(module).Halts())

    first = fingerprint_of("first", EVENT, "1")
    assert fingerprint_of("second", EVENT.replace("reason", "cause"), "1") == first
    assert fingerprint_of("third", EVENT, "2") != first
