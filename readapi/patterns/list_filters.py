"""The lists of whoever asks, where a scan names them: ``watchlist`` and ``preset``."""

import re
from collections.abc import Collection, Mapping
from reprlib import repr as _written  # of what is too deep or too long for a parameter, no more than its beginning
from typing import Annotated, Any

from falcon.asgi import Request, Response
from pydantic import StringConstraints

from projections.queries import WorkspaceQueries
from projections.workspaces import WorkspaceRow
from readapi.http.identities import identity_of
from readapi.http.problems import Problem, invalid
from readapi.http.read_model import POSITION_HEADER, ReadModel
from readapi.ports.read_models import LiveBuild

LIST_ID_PATTERN = "^[0-9a-f]{32}$"
ListId = Annotated[str, StringConstraints(pattern=LIST_ID_PATTERN)]

QueryParameters = Mapping[str, str | list[str]]
"""Parameters as a query string has them."""


class CallerWorkspace:
    """The workspace of whoever asks, read once for a request."""

    def __init__(self, workspaces: ReadModel[WorkspaceQueries]) -> None:
        self._workspaces = workspaces

    async def complete_parameters(self, req: Request) -> QueryParameters:
        """The parameters, those of the preset that they name among them where they say nothing else.

        Raises Problem (400) for a preset that is none of one's own.
        """
        given: QueryParameters = req.params
        return with_preset(given, await self.read(req)) if _preset_id(given) else given

    async def symbols(self, req: Request, watchlist_id: str) -> frozenset[str]:
        """Those of a watchlist. Raises Problem (400) where it is none of one's own."""
        return watchlist_symbols(await self.read(req), watchlist_id)

    def tell_position(self, req: Request, resp: Response) -> None:
        """Add to the position of an answer that of the lists, if any were read."""
        if position := getattr(req.context, "lists_position", None):
            resp.set_header(POSITION_HEADER, f"{resp.get_header(POSITION_HEADER)},{position}")

    async def read(self, req: Request) -> WorkspaceRow:
        """What whoever asks has, once it is known up to the position that they ask for. Raises Problem (400, 504)."""
        workspace: WorkspaceRow | None = getattr(req.context, "workspace", None)
        if workspace is None:
            live = await self._workspaces.wait_for_position(req)
            workspace = await read_workspace(req, live)
            req.context.workspace, req.context.lists_position = workspace, live.formatted_positions
        return workspace


def with_preset(given: QueryParameters, own: WorkspaceRow, among: Collection[str] | None = None) -> QueryParameters:
    """Parameters with those of the preset that they name, where they say nothing else; of those ``among`` these alone.

    Raises Problem (400) for a preset that is none of one's own.
    """
    preset_id = _preset_id(given)
    if preset_id is None:
        return given
    preset = own.presets.get(preset_id)
    if preset is None:
        raise _unknown("preset", preset_id)
    parameters = {name: value for name, value in preset["parameters"].items() if among is None or name in among}
    return {**as_query_parameters(parameters), **given}


def _preset_id(given: QueryParameters) -> str | None:
    """What can be the id of a preset; what cannot is refused with all else that is wrong."""
    preset_id = given.get("preset")
    return preset_id if isinstance(preset_id, str) and re.fullmatch(LIST_ID_PATTERN, preset_id) else None


def watchlist_symbols(own: WorkspaceRow, watchlist_id: str) -> frozenset[str]:
    """Those of a watchlist. Raises Problem (400) where it is none of one's own."""
    watchlist = own.watchlists.get(watchlist_id)
    if watchlist is None:
        raise _unknown("watchlist", watchlist_id)
    return frozenset(watchlist["symbols"])


async def read_workspace(req: Request, live: LiveBuild[WorkspaceQueries]) -> WorkspaceRow:
    """What whoever asks has."""
    user = identity_of(req).subject
    found = await live.queries.get(user)
    return found.row if found else WorkspaceRow(user)


def _unknown(kind: str, list_id: str) -> Problem:
    return invalid([{"field": kind, "reason": f"is none of your {kind}s: {list_id!r}"}])


def as_query_parameters(parameters: Mapping[str, Any]) -> QueryParameters:
    """Parameters in JSON as a query string has them: ``[30.0, 70.0]`` is ``30.0,70.0``."""
    return {name: _as_text(value) for name, value in parameters.items()}


def _as_text(value: Any) -> str | list[str]:
    if isinstance(value, list | tuple):
        texts = [item if isinstance(item, str) else _written(item) for item in value]
        return texts if any(isinstance(item, str) for item in value) else ",".join(texts)
    return value if isinstance(value, str) else _written(value)
