"""Endpoints of user lists: the collection and the single list, for any kind of list.

The user is always the client's own identity. No path and no parameter names a user.
"""

import re
from collections.abc import Callable
from dataclasses import asdict
from secrets import token_hex
from typing import Any

from falcon.asgi import Request, Response

from domain.list_rules import ExpectedVersions
from domain.workspace import Stamp, Workspace
from projections.queries import RowQueries
from projections.workspaces import WorkspaceRow
from readapi.http.bodies import read_body
from readapi.http.identities import identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.read_model import POSITION_HEADER, ReadModel
from readapi.http.responses import send_private
from readapi.patterns.list_filters import read_workspace
from readapi.ports.commands import WorkspaceCommands
from readapi.ports.read_models import LiveRows, format_positions
from readapi.users.list_kind import ListCommand, ListKind

MAX_BODY_BYTES = 262_144
"""Highest number of bytes in the body of a request."""

_ETAG_HEADER = {"ETag": "Version of the list, to send as `If-Match`."}
_CREATED_HEADERS = {**_ETAG_HEADER, "Location": "Path of the new list."}
_WRITE_PROBLEMS = (409, 413, 415, 422, 503)

_STRONG_TAG = re.compile(r'(?<!W/)"([0-9]{1,15})"', re.ASCII)


class UserLists:
    """The lists of all users: the read model for queries and the commands for changes.

    Args:
        workspaces: The read model of the users' workspaces.
        commands: The commands on workspaces.
        clock: Returns the current time in epoch seconds.
    """

    def __init__(
        self, workspaces: ReadModel[RowQueries[WorkspaceRow]], commands: WorkspaceCommands, clock: Callable[[], float]
    ) -> None:
        self.read_model = workspaces
        self._commands = commands
        self._clock = clock

    async def execute(self, req: Request, resp: Response, command: ListCommand, list_id: str) -> Workspace:
        """Execute a command on the client's workspace and set the position header. Raises WorkspaceError."""
        user = identity_of(req).sender
        stamp = Stamp(user.subject, self._clock())
        workspace, positions = await self._commands.execute(user, lambda workspace: command(workspace, stamp, list_id))
        resp.set_header(POSITION_HEADER, format_positions(positions))
        return workspace


def collection_resource(kind: ListKind[Any, Any], lists: UserLists) -> Resource:
    """Create the resource of all lists of one kind."""

    class CollectionResource(Resource):
        read_model = lists.read_model

        @operation(f"List {kind.label}s.", scope="read", responses={200: kind.collection_document}, reads=True)
        async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveRows[WorkspaceRow]) -> None:
            """Send the client's lists in order of creation."""
            workspace = await read_workspace(req, live)
            documents = [kind.render(row, workspace) for row in kind.rows(workspace).values()]
            send_private(req, resp, {f"{kind.noun}s": documents, "count": len(documents)})

        @operation(
            f"Create a {kind.label}.",
            scope="write",
            responses={201: kind.document},
            body=kind.create_body,
            problems=_WRITE_PROBLEMS,
            writes=True,
            headers=_CREATED_HEADERS,
        )
        async def on_post(self, req: Request, resp: Response, _query: Parameters) -> None:
            """Create a list with a new id and send it."""
            command = kind.create(await read_body(req, kind.create_body, MAX_BODY_BYTES))
            list_id = token_hex(16)
            workspace = await lists.execute(req, resp, command, list_id)
            resp.status = 201
            # ``root_path`` is the prefix under which a host application mounts this application.
            resp.location = f"{req.root_path}{req.path}/{list_id}"
            _send_written(req, resp, kind, workspace, list_id)

    return CollectionResource()


def item_resource(kind: ListKind[Any, Any], lists: UserLists) -> Resource:
    """Create the resource of one list of one kind."""
    path = {"list_id": f"Id of the {kind.label}."}

    class ItemResource(Resource):
        read_model = lists.read_model

        @operation(
            f"Show a {kind.label}.",
            scope="read",
            responses={200: kind.document},
            path=path,
            problems=(404,),
            reads=True,
        )
        async def on_get(
            self,
            req: Request,
            resp: Response,
            _query: Parameters,
            *,
            live: LiveRows[WorkspaceRow],
            list_id: str,
        ) -> None:
            """Send the list, or 404 if the client has no list with this id."""
            workspace = await read_workspace(req, live)
            row = kind.rows(workspace).get(list_id)
            if row is None:
                raise not_found(f"{kind.noun} {list_id!r} of this user")
            send_private(req, resp, {kind.noun: kind.render(row, workspace)}, str(row["version"]))

        @operation(
            kind.update_summary,
            scope="write",
            responses={200: kind.document},
            path=path,
            body=kind.update_body,
            problems=(404, 412, *_WRITE_PROBLEMS),
            writes=True,
            uses_if_match=True,
            headers=_ETAG_HEADER,
        )
        async def on_put(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
            """Change the list and send it."""
            body = await read_body(req, kind.update_body, MAX_BODY_BYTES)
            command = kind.update(body, expected_versions(req))
            workspace = await lists.execute(req, resp, command, list_id)
            _send_written(req, resp, kind, workspace, list_id)

        @operation(
            f"Delete a {kind.label}.",
            scope="write",
            responses={204: None},
            path=path,
            problems=(404, 412, 503),
            writes=True,
            uses_if_match=True,
        )
        async def on_delete(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
            """Delete the list."""
            await lists.execute(req, resp, kind.delete(expected_versions(req)), list_id)
            resp.status = 204

    return ItemResource()


def expected_versions(req: Request) -> ExpectedVersions | None:
    """Parse ``If-Match`` (RFC 9110, section 13.1.1).

    Returns:
        The versions that the client expects, or None if the client accepts any version. A weak entity tag and an
        entity tag that TickView did not issue are the version of no list.
    """
    header = req.get_header("If-Match")
    if header is None or header.strip() == "*":
        return None
    return frozenset(map(int, _STRONG_TAG.findall(header)))


def _send_written(req: Request, resp: Response, kind: ListKind[Any, Any], workspace: Workspace, list_id: str) -> None:
    row = asdict(kind.rows(workspace)[list_id])
    send_private(req, resp, {kind.noun: kind.render(row, workspace)}, str(row["version"]))
