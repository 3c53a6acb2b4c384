"""What watchlists and filter presets have in common: one's own lists, read and changed under ``/api/users``."""

import re
from collections.abc import Callable
from secrets import token_hex

from falcon.asgi import Request, Response

from domain.workspace import Stamp, Versions, Workspace
from projections.queries import WorkspaceQueries
from readapi.http.identities import identity_of
from readapi.http.operation import Resource
from readapi.http.read_model import POSITION_HEADER, ReadModel
from readapi.ports.commands import WorkspaceCommands
from readapi.ports.read_models import format_positions

MOST_BYTES = 262_144
"""Of a request."""

TAG = {"ETag": "The list's version, for `If-Match`."}
CREATED = {**TAG, "Location": "Where the list is."}
WRITE_PROBLEMS = (409, 413, 415, 422, 503)

_STRONG_TAG = re.compile(r'(?<!W/)"([0-9]{1,15})"', re.ASCII)


class ListsResource(Resource):
    """The lists of whoever asks, never those of anybody else: the user is in no path and in no parameter."""

    def __init__(
        self, workspaces: ReadModel[WorkspaceQueries], desk: WorkspaceCommands, clock: Callable[[], float]
    ) -> None:
        self.read_model = workspaces
        self._desk = desk
        self._clock = clock

    async def do(self, req: Request, resp: Response, command: Callable[[Workspace, Stamp], None]) -> Workspace:
        """What they have after ``command``; the answer says up to which position. Raises WorkspaceError."""
        user = identity_of(req).subject
        stamp = Stamp(user, self._clock())
        workspace, positions = await self._desk.execute(user, lambda workspace: command(workspace, stamp))
        resp.set_header(POSITION_HEADER, format_positions(positions))
        return workspace

    async def begin(
        self, req: Request, resp: Response, command: Callable[[Workspace, Stamp, str], None]
    ) -> tuple[Workspace, str]:
        """The same after ``command`` has begun a list, whose id is new, and that id; the answer says where it is."""
        list_id = token_hex(16)
        workspace = await self.do(req, resp, lambda workspace, stamp: command(workspace, stamp, list_id))
        resp.status = 201
        # Seen from outside, the application may be mounted under a prefix.
        resp.location = f"{req.root_path}{req.path}/{list_id}"
        return workspace, list_id


def expected(req: Request) -> Versions | None:
    """The versions that ``If-Match`` names; None where any will do.

    What is no entity tag of ours, or a weak one, is the version of no list.
    """
    header = req.get_header("If-Match")
    if header is None or header.strip() == "*":
        return None
    return frozenset(map(int, _STRONG_TAG.findall(header)))
