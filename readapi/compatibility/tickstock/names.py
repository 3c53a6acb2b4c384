"""Names as the platform's pages spell them: short names of patterns, keys of universes, sectors."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from projections.pattern_views import short_name
from projections.queries import ResultRow, RowQueries
from projections.universes import UniverseRow
from readapi.catalogue.derived import Derived
from readapi.catalogue.filters import Catalogue
from readapi.compatibility.tickstock.parameters import QueryParameters
from readapi.ports.errors import UnavailableError


def plain(name: str) -> str:
    """Return a name without case, blanks and signs: ``sp500`` for ``SP 500`` and ``sp_500``."""
    return "".join(character for character in name.casefold() if character.isalnum())


def universe_names(rows: Iterable[ResultRow[UniverseRow]]) -> Mapping[str, str]:
    """Return the key of each universe by its plain names: its key, ``<name>:<key>`` and its name."""
    keys: dict[str, str] = {}
    universes = [result.row for result in rows]
    for universe in universes:
        keys.setdefault(plain(universe.key), universe.key)
    for universe in universes:
        for name in (f"{universe.name}:{universe.key}", universe.name or ""):
            keys.setdefault(plain(name), universe.key)
    return keys


class Names:
    """The known names of the catalogue and of the active patterns.

    Args:
        catalogue: The catalogue.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._universes = Derived(universe_names)

    def universe(self, name: str) -> str:
        """Return the key of the universe with this key or name. An unknown name is returned unchanged."""
        live = self._catalogue.universes.live
        with suppress(UnavailableError):
            known = self._universes.of(live)
            return name if name in known.values() else known.get(plain(name), name)
        return name

    def sector(self, name: str) -> str:
        """Return the sector with this name in any case. An unknown name is returned unchanged."""
        with suppress(UnavailableError):
            sectors = self._catalogue.symbol_index(self._catalogue.symbols.live).sectors
            return name if name in sectors else next((each for each in sectors if plain(each) == plain(name)), name)
        return name


async def resolve(
    parameters: QueryParameters, names: Names, patterns: RowQueries[Any], now: float
) -> dict[str, str | list[str]]:
    """Replace the names in converted parameters of the scan by the names of TickView.

    Args:
        parameters: The result of ``scan_parameters``.
        names: The known names.
        patterns: The active patterns.
        now: The present time in epoch seconds.
    """
    resolved = dict(parameters)
    for name, convert in (("universe", names.universe), ("sectors", names.sector)):
        if name in resolved:
            resolved[name] = [convert(each) for each in resolved[name]]
    if "pattern_types" in resolved:
        known = (await patterns.counts(("by_type",), now))["by_type"].groups
        resolved["pattern_types"] = list(_pattern_types(resolved["pattern_types"], known))
    return resolved


def _pattern_types(asked: Iterable[str], known: Iterable[str]) -> dict[str, None]:
    """Return the types with these names or short names, in order. An unknown name stays."""
    types: dict[str, None] = {}
    for name in asked:
        matching = [each for each in known if name in (each, short_name(each)) or plain(each) == plain(name)]
        types |= dict.fromkeys(matching or [name])
    return types
