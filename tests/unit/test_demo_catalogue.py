"""The catalogue of the demo: its symbols are those that the demo plays, and its universes are subsets of them."""

from pathlib import Path

import infra.demo
from infra.catalogue.synchronization import read_source
from infra.demo.bars import load
from infra.demo.detection import charts
from infra.demo.play import series
from infra.settings import Settings

FOLDER = Path(infra.demo.__file__).parent / "catalogue"


def test_the_catalogue_contains_exactly_the_symbols_that_the_demo_plays() -> None:
    symbols, universes = read_source(Settings(), FOLDER / "symbols.csv", FOLDER / "universes.json")
    assert symbols is not None
    assert universes is not None
    assert symbols.refused + universes.refused == []
    assert list(symbols.entries) == [played.symbol for played in series(charts(load()).values())]
    assert all(entry.details["sector"] for entry in symbols.entries.values())
    assert len(universes.entries) == 2
    for universe in universes.entries.values():
        assert set(universe.symbols) < symbols.entries.keys()
