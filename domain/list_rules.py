"""The rules for a user's lists, and the errors for commands that break a rule."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unicodedata import normalize

from domain.errors import TickViewError
from domain.symbols import SYMBOL_RULE, is_symbol

MAX_LISTS = 100
"""Highest number of watchlists of one user, and highest number of presets of one user."""

ExpectedVersions = Collection[int]
"""The versions of a list or alert that a command accepts. In a parameter, None accepts every version."""

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


class NoSuchListError(WorkspaceError):
    """The user has no list of this kind with this id."""


class OutdatedError(WorkspaceError):
    """The list has a version that the command does not accept.

    Attributes:
        version: The current version of the list.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"the list has changed in the meantime: it is at version {version}")
        self.version = version


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


def check_capacity(lists: Mapping[str, object], kind: str, highest: int = MAX_LISTS) -> None:
    """Check that a user can have one more list of a kind, or one more alert. Raises InvalidListError.

    Args:
        lists: The lists of this kind, by id.
        kind: The plural of the kind, for the error.
        highest: Highest number of lists of this kind.
    """
    if len(lists) >= highest:
        raise InvalidListError([(kind, f"have reached the limit of {highest} for each user: delete one first")])


def check_watchlist_parameter(parameters: Mapping[str, Any], watchlists: Mapping[str, object]) -> None:
    """Check that the watchlist in the parameters of a preset is a watchlist of the user. Raises InvalidListError."""
    watchlist = parameters.get("watchlist")
    if watchlist is not None and watchlist not in watchlists:
        reason = f"should be the id of one of this user's watchlists, and is {watchlist!r}"
        raise InvalidListError([("parameters.watchlist", reason)])


def changed_list(before: Any, at: float, **changes: Any) -> Any:
    """Return a list or alert with changes, the time of the change and the next version."""
    return replace(before, updated_at=at, version=before.version + 1, **changes)


def find_list(lists: Mapping[str, Any], list_id: str, kind: str, expected: ExpectedVersions | None = None) -> Any:
    """Return a list or alert.

    Raises:
        NoSuchListError: There is none with this id.
        OutdatedError: It has none of the expected versions.
    """
    match = lists.get(list_id)
    if match is None:
        raise NoSuchListError(f"there is no {kind} {list_id!r} of this user")
    if expected is not None and match.version not in expected:
        raise OutdatedError(match.version)
    return match
