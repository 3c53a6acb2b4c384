"""Filters by a user's own lists: the parameters ``watchlist`` and ``preset``."""

import re
from collections.abc import Collection, Mapping
from reprlib import repr as _shortened_repr
from typing import Annotated, Any

from falcon.asgi import Request, Response
from pydantic import StringConstraints

from projections.queries import ALWAYS, RowQueries
from projections.workspaces import WorkspaceRow
from readapi.catalogue.symbol_index import symbols_of_patterns
from readapi.http.identities import identity_of
from readapi.http.problems import Problem, invalid
from readapi.http.read_model import POSITION_HEADER, ReadModel
from readapi.ports.read_models import LiveRows

LIST_ID_PATTERN = "^[0-9a-f]{32}$"
ListId = Annotated[str, StringConstraints(pattern=LIST_ID_PATTERN)]

QueryParameters = Mapping[str, str | list[str]]
"""Query parameters as text, before validation."""


class CallerWorkspace:
    """The workspace of the user who sends a request, read at most once per request."""

    def __init__(self, workspaces: ReadModel[RowQueries[WorkspaceRow]]) -> None:
        self._workspaces = workspaces

    async def complete_parameters(self, req: Request) -> QueryParameters:
        """Return the query parameters of the request, completed by the parameters of the preset that they name.

        Raises:
            Problem: 400 if the user has no such preset or the required position is malformed, 504 if the position is
                not reached in time.
        """
        parameters: QueryParameters = req.params
        return with_preset(parameters, await self.read(req)) if _preset_id(parameters) else parameters

    async def symbols(self, req: Request, watchlist_id: str) -> frozenset[str]:
        """Return the symbols of a watchlist.

        Raises:
            Problem: 400 if the user has no such watchlist or the required position is malformed, 504 if the position is
                not reached in time.
        """
        return watchlist_symbols(await self.read(req), watchlist_id)

    def set_position_header(self, req: Request, resp: Response) -> None:
        """Append the position of the workspace to the position header, if the workspace was read."""
        if position := getattr(req.context, "lists_position", None):
            resp.set_header(POSITION_HEADER, f"{resp.get_header(POSITION_HEADER)},{position}")

    async def read(self, req: Request) -> WorkspaceRow:
        """Read the workspace at the position that the request requires. Raises Problem (400, 504)."""
        workspace: WorkspaceRow | None = getattr(req.context, "workspace", None)
        if workspace is None:
            live = await self._workspaces.wait_for_position(req)
            workspace = await read_workspace(req, live)
            req.context.workspace, req.context.lists_position = workspace, live.formatted_positions
        return workspace


def with_preset(
    parameters: QueryParameters, workspace: WorkspaceRow, names: Collection[str] | None = None
) -> QueryParameters:
    """Complete query parameters by the parameters of the preset that they name. The request takes precedence.

    Args:
        parameters: The query parameters of the request.
        workspace: The workspace of the user.
        names: Names of the parameters to take from the preset. None for all.

    Raises:
        Problem: 400, the user has no such preset.
    """
    preset_id = _preset_id(parameters)
    if preset_id is None:
        return parameters
    preset = workspace.presets.get(preset_id)
    if preset is None:
        raise _unknown_list("preset", preset_id)
    from_preset = {name: value for name, value in preset["parameters"].items() if names is None or name in names}
    return {**as_query_parameters(from_preset), **parameters}


def _preset_id(parameters: QueryParameters) -> str | None:
    """Return the id of the preset. None if it is missing or malformed: the validation reports a malformed id later."""
    preset_id = parameters.get("preset")
    return preset_id if isinstance(preset_id, str) and re.fullmatch(LIST_ID_PATTERN, preset_id) else None


def watchlist_symbols(workspace: WorkspaceRow, watchlist_id: str) -> frozenset[str]:
    """Return the symbols of a watchlist, as filters compare them. Raises Problem (400) if there is no such list."""
    watchlist = workspace.watchlists.get(watchlist_id)
    if watchlist is None:
        raise _unknown_list("watchlist", watchlist_id)
    return symbols_of_patterns(watchlist["symbols"])


async def read_workspace(req: Request, live: LiveRows[WorkspaceRow]) -> WorkspaceRow:
    """Read the workspace of the user who sends a request. It is empty if the user has none."""
    user = identity_of(req).subject
    result = await live.queries.get(user, ALWAYS)
    return result.row if result else WorkspaceRow(user)


def _unknown_list(kind: str, list_id: str) -> Problem:
    return invalid([{"field": kind, "reason": f"is not the id of one of your {kind}s: {list_id!r}"}])


def as_query_parameters(parameters: Mapping[str, Any]) -> QueryParameters:
    """Convert JSON parameters to query parameters: ``[30.0, 70.0]`` becomes ``30.0,70.0``."""
    return {name: _as_text(value) for name, value in parameters.items()}


def _as_text(value: Any) -> str | list[str]:
    """Convert a JSON value to text. The text of a value that is no valid parameter is shortened."""
    if isinstance(value, list | tuple):
        texts = [item if isinstance(item, str) else _shortened_repr(item) for item in value]
        return texts if any(isinstance(item, str) for item in value) else ",".join(texts)
    return value if isinstance(value, str) else _shortened_repr(value)
