"""What names and symbols of a user's lists may be, and how a command that does not heed it is refused."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

from domain.errors import TickViewError
from domain.symbols import SYMBOL_RULE, is_symbol

MAX_SYMBOLS = 1_000
"""Of one watchlist."""

MAX_NAME_LENGTH = 80
"""Characters of a list's name."""

MAX_FAULTS = 10

EMOJI_JOINER = "\N{ZERO WIDTH JOINER}"
"""Not printable by itself, not seen, and part of many an emoji."""


class WorkspaceError(TickViewError):
    """A command is refused; the message says why."""


class NameTakenError(WorkspaceError):
    """Another list of the same kind has the name."""


class InvalidListError(WorkspaceError):
    """A list cannot be like this. ``faults`` are (field, reason), ten at most."""

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = list(faults)[:MAX_FAULTS]
        super().__init__("; ".join(f"{field} {reason}" for field, reason in self.faults))


def name_key(name: str) -> str:
    """Names with the same key are the same name."""
    return normalize("NFKC", name.replace(EMOJI_JOINER, "")).casefold()


def validate_name(kept: Mapping[str, Any], name: str, list_id: str | None = None) -> str:
    """The name as it is kept. Raises InvalidListError, NameTakenError where another list than ``list_id`` has it."""
    trimmed = name.strip()
    seen = trimmed.replace(EMOJI_JOINER, "")
    if not seen or len(trimmed) > MAX_NAME_LENGTH or not seen.isprintable():
        raise InvalidListError([("name", f"should be 1 to {MAX_NAME_LENGTH} printable characters")])
    if any(other.id != list_id and name_key(other.name) == name_key(trimmed) for other in kept.values()):
        raise NameTakenError(f"there is another list called {trimmed!r}")
    return trimmed


def validate_symbols(symbols: Sequence[str]) -> tuple[str, ...]:
    """The symbols as they are kept. Raises InvalidListError."""
    if len(symbols) > MAX_SYMBOLS:
        raise InvalidListError([("symbols", f"should be {MAX_SYMBOLS:,} at most, and are {len(symbols):,}")])
    places: dict[str, int] = {}
    faults = []
    for place, given in enumerate(symbols):
        symbol = given.upper()
        if not is_symbol(given):
            faults.append((f"symbols[{place}]", f"{SYMBOL_RULE}, and is {given[:48]!r}"))
        elif symbol in places:
            faults.append((f"symbols[{place}]", f"is {symbol} again, as symbols[{places[symbol]}]"))
        else:
            places[symbol] = place
    if faults:
        raise InvalidListError(faults)
    return tuple(places)
