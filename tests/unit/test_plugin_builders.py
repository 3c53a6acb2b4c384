"""Builders of plug-ins that fail: the message becomes a refusal with the reason, and no process ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain import wire
from infra.plugins.loading import load_plugins
from tests.plugins import PLUGIN, PluginFolder, plugin_folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[PluginFolder]:
    with plugin_folder(tmp_path) as folder:
        yield folder


ATTRIBUTES = 'event_id="1", occurred_at=1, source="s", symbol="A"'

FAILING_BUILDERS = {
    "an error": ('raise KeyError("symbol")', "reader-failed", "halting.halted failed: KeyError: 'symbol'"),
    "an error of two lines": (r'raise RecursionError("a\nb")', "reader-failed", "RecursionError: a b"),
    "no event": ("return None", "reader-failed", "NoneType is no registered event type"),
    "an unknown event type": (
        f'return type("Other", (Halted,), {{}})({ATTRIBUTES})',
        "reader-failed",
        "Other is no registered event type",
    ),
    "an event that cannot be stored": (
        f'return Halted({ATTRIBUTES}, extra={{"type": object()}})',
        "reader-failed",
        "Unable to serialize unknown type",
    ),
    "an event that changes by storing": (
        f'return Halted({ATTRIBUTES}, extra={{"set": {{1}}}})',
        "reader-failed",
        "does not have the same content",
    ),
    "an event with an invalid field": (
        f"return Halted({ATTRIBUTES.replace('=1,', '=-1,')})",
        "invalid-event",
        "occurred_at of Halted is invalid: Input should be greater than or equal to 0",
    ),
    "a refusal": (
        'raise RefusedError("missing-field", "symbol is missing")',
        "missing-field",
        "symbol is missing",
    ),
}
"""The first statement of the builder -> the code of the refusal, and words of its reason."""


@pytest.mark.parametrize(("statement", "code", "reason"), FAILING_BUILDERS.values(), ids=FAILING_BUILDERS)
def test_a_builder_that_fails_refuses_the_message(folder: PluginFolder, statement: str, code: str, reason: str) -> None:
    source = PLUGIN.replace("    return Halted(\n", f"    {statement}\n    return Halted(\n")
    load_plugins([folder.write(source)])
    events, [refused], *_ = wire.read("exchange.halts", b"{}", 5.0)
    assert (events, refused.code) == ((), code)
    assert reason in refused.reason


@pytest.mark.parametrize("stream", ["user-anna", "", "a\nb"])
def test_an_event_outside_of_the_market_is_refused(folder: PluginFolder, stream: str) -> None:
    load_plugins([folder.write(PLUGIN.replace('f"halt-{self.symbol}"', repr(stream)))])
    _, [refused], *_ = wire.read("exchange.halts", b'{"symbol": "A"}', 5.0)
    assert (refused.code, "is no name of a stream of the market" in refused.reason) == ("reader-failed", True)
