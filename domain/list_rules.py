"""The rules for names and symbols of a user's lists, and the errors for commands that break a rule."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

from domain.errors import TickViewError
from domain.symbols import SYMBOL_RULE, is_symbol

MAX_SYMBOLS = 1_000
"""Highest number of symbols in one watchlist."""

MAX_NAME_LENGTH = 80
"""Highest number of characters in the name of a list."""

MAX_FAULTS = 10
"""Highest number of faults in one error."""

EMOJI_JOINER = "\N{ZERO WIDTH JOINER}"
"""The character that joins emojis to one emoji. It is invisible, and Python does not count it as printable."""


class WorkspaceError(TickViewError):
    """A refused command to a user's workspace. The message says why."""


class NameTakenError(WorkspaceError):
    """Another list of the same kind has the name."""


class InvalidListError(WorkspaceError):
    """A command that breaks a rule for lists.

    Args:
        faults: Pairs of a field and a reason. The field and the reason together form a sentence.

    Attributes:
        faults: The first ``MAX_FAULTS`` of the faults.
    """

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = list(faults)[:MAX_FAULTS]
        super().__init__("; ".join(f"{field} {reason}" for field, reason in self.faults))


def name_key(name: str) -> str:
    """Return the key of a name. Two names with equal keys count as the same name."""
    return normalize("NFKC", name.replace(EMOJI_JOINER, "")).casefold()


def validate_name(lists: Mapping[str, Any], name: str, list_id: str | None = None) -> str:
    """Validate the name of a list.

    Args:
        lists: The user's lists of the same kind, by id.
        name: The requested name.
        list_id: The id of the list that gets the name. The list may have the name already.

    Returns:
        The name without surrounding blanks.

    Raises:
        InvalidListError: The name is empty, too long or not printable.
        NameTakenError: Another list in ``lists`` has the name.
    """
    trimmed = name.strip()
    visible = trimmed.replace(EMOJI_JOINER, "")
    if not visible or len(trimmed) > MAX_NAME_LENGTH or not visible.isprintable():
        raise InvalidListError([("name", f"should be 1 to {MAX_NAME_LENGTH} printable characters")])
    if any(other.id != list_id and name_key(other.name) == name_key(trimmed) for other in lists.values()):
        raise NameTakenError(f"another list of this user is called {trimmed!r}: choose another name")
    return trimmed


def validate_symbols(symbols: Sequence[str]) -> tuple[str, ...]:
    """Validate the symbols of a watchlist.

    Returns:
        The symbols in the same order. A symbol in small letters is converted to capitals: users type it so.

    Raises:
        InvalidListError: There are more than ``MAX_SYMBOLS``, a text is not a symbol, or a symbol occurs twice.
    """
    if len(symbols) > MAX_SYMBOLS:
        raise InvalidListError([("symbols", f"should be at most {MAX_SYMBOLS:,} symbols, and are {len(symbols):,}")])
    places: dict[str, int] = {}
    faults = []
    for place, text in enumerate(symbols):
        symbol = text.upper() if text.isascii() and text.islower() else text
        if not is_symbol(text):
            faults.append((f"symbols[{place}]", f"{SYMBOL_RULE}, and is {text[:48]!r}"))
        elif symbol in places:
            faults.append((f"symbols[{place}]", f"repeats {symbol}, which is already symbols[{places[symbol]}]"))
        else:
            places[symbol] = place
    if faults:
        raise InvalidListError(faults)
    return tuple(places)
