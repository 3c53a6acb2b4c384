"""Watchlists: the bodies and documents of ``/api/users/watchlists``."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from domain.list_rules import MAX_NAME_LENGTH, MAX_SYMBOLS, ExpectedVersions
from projections.workspaces import WatchlistRow
from readapi.http.parameters import Parameters
from readapi.users.list_kind import ListCommand, ListKind

Name = Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_NAME_LENGTH})]
Symbols = Annotated[list[str], Field(json_schema_extra={"maxItems": MAX_SYMBOLS, "uniqueItems": True})]


class WatchlistContent(Parameters):
    """A new watchlist."""

    name: Name
    """Name of the watchlist. No other watchlist of the user may have this name; case does not matter. Leading
    and trailing blanks are removed."""
    symbols: Symbols = []
    """Ticker symbols in any order. They are stored in upper case, and duplicates are removed."""


class WatchlistChange(Parameters):
    """A change of a watchlist. A member that is left out stays unchanged."""

    name: Name | None = None
    """New name, with the same rules as for a new watchlist."""
    symbols: Symbols | None = None
    """All symbols of the changed watchlist, with the same rules as for a new watchlist."""


class WatchlistCollection(TypedDict):
    """The watchlists of the user in order of creation. ``count`` is their number."""

    watchlists: list[WatchlistRow]
    count: int


class WatchlistDocument(TypedDict):
    """One watchlist. Its ``version`` is the value of the ``ETag``."""

    watchlist: WatchlistRow


def _create(body: WatchlistContent) -> ListCommand:
    return lambda workspace, stamp, list_id: workspace.create_watchlist(stamp, list_id, body.name, body.symbols)


def _update(body: WatchlistChange, expected: ExpectedVersions | None) -> ListCommand:
    return lambda workspace, stamp, list_id: workspace.change_watchlist(
        stamp, list_id, body.name, body.symbols, expected
    )


def _delete(expected: ExpectedVersions | None) -> ListCommand:
    return lambda workspace, stamp, list_id: workspace.delete_watchlist(stamp, list_id, expected)


WATCHLISTS = ListKind(
    noun="watchlist",
    label="watchlist",
    document=WatchlistDocument,
    collection_document=WatchlistCollection,
    create_body=WatchlistContent,
    update_body=WatchlistChange,
    update_summary="Change the name, the symbols or both of a watchlist.",
    rows=lambda workspace: workspace.watchlists,
    render=lambda row, _workspace: row,
    create=_create,
    update=_update,
    delete=_delete,
)
