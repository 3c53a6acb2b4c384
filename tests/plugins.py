"""Modules of plug-ins for tests: their sources, and a folder on the search path that holds them."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domain.event_types import EVENT_TYPES
from domain.wire.channels import CHANNEL_OF, CHANNELS
from infra.plugins.schemas import write_schema
from projections.registry import FORMER, READ_MODELS

EVENT = '''
from typing import Any, ClassVar

from domain.events import Event

class Halted(Event):
    """A halt."""

    symbol: str
    reason: str = "news"

    @property
    def stream(self) -> str:
        return f"halt-{self.symbol}"
'''

CHANNEL = """
from domain.wire import Batch, Channel, MessageLevels, RefusedError

def halted(message: MessageLevels, event_id: str, received_at: float) -> Halted:
    return Halted(
        event_id=event_id,
        occurred_at=received_at,
        source="test",
        symbol=message.take("symbol")[1],
        extra=message.remaining_fields(),
    )

HALTS = Channel(("exchange.halts", "exchange.halts.eu"), {"halted": halted})
"""

READ_MODEL = """
from dataclasses import dataclass
from typing import Annotated

from projections.base import Count, Index, Projection
from projections.columns import Column
from projections.views import View

@dataclass(frozen=True)
class Row:
    symbol: Annotated[str, Column(equality=True)]
    halts: Annotated[int, Column(range=True, sort=True)]

class Halts(Projection[Row, Halted]):
    name = "halts"
    version = 1
    row = Row
    key = "symbol"
    order = "halts"
    handles = (Halted,)

    def keys(self, event):
        return (event.symbol,)

    def evolve(self, row, event):
        return Row(event.symbol, row.halts + 1 if row else 1)
"""

PLUGIN = EVENT + CHANNEL + READ_MODEL
"""A module with an event, a channel and a read model."""

FIELDS = '    symbol: str\n    reason: str = "news"\n'

PLUGIN_2 = PLUGIN.replace(
    FIELDS,
    """\
    class_version: ClassVar[int] = 2
    symbol: str
    reason: str

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["reason"] = "unknown"
""",
)
"""The module with the second schema version of its event."""


class PluginFolder:
    """A folder with modules and with the metadata of an installed package."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def schema(self, version: int) -> Path:
        """Return the golden schema of the event ``Halted``."""
        return self.path / "schemas" / f"Halted.v{version}.json"

    def write(self, source: str = PLUGIN, name: str = "halting", *, schema: bool = True) -> str:
        """Write a module, also in place of an older one, with the golden schemas of its events. Return its name."""
        name, file = name.removesuffix(".__init__"), self.path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        if schema:
            for value in list(vars(importlib.import_module(name)).values()):
                if getattr(value, "__module__", None) == name and hasattr(value, "model_fields"):
                    write_schema(value)
        return name

    def install(self, **parts: str) -> None:
        """Write the metadata of an installed package with one entry point for each kind of part."""
        metadata = self.path / "halting-1.5.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: halting\nVersion: 1.5\n")
        groups = [f"[tickview.{kind}]\nmine = {value}\n" for kind, value in parts.items()]
        (metadata / "entry_points.txt").write_text("\n".join(groups))


@contextmanager
def plugin_folder(path: Path) -> Iterator[PluginFolder]:
    """Put a folder on the search path. At the end, restore the path, the imported modules and the registries."""
    registries: tuple[dict[str, Any], ...] = (EVENT_TYPES, CHANNELS, CHANNEL_OF, READ_MODELS)
    contents, former = [dict(registry) for registry in registries], list(FORMER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(path)
        yield PluginFolder(path)
    for registry, content in zip(registries, contents, strict=True):
        registry.clear()
        registry.update(content)
    FORMER[:] = former
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(path)):
            del sys.modules[name]
