"""``/api/users/watchlists``: one's own watchlists, and one of them."""

from dataclasses import asdict
from typing import Annotated

from falcon.asgi import Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from domain.list_rules import MAX_NAME_LENGTH, MAX_SYMBOLS
from domain.workspace import Workspace
from projections.queries import WorkspaceQueries
from projections.workspaces import WatchlistRow
from readapi.http.bodies import read_body
from readapi.http.operation import operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.responses import send_private
from readapi.patterns.list_filters import read_workspace
from readapi.ports.read_models import LiveBuild
from readapi.users.list_resource import CREATED, MOST_BYTES, TAG, WRITE_PROBLEMS, ListsResource, expected

LIST_ID = {"list_id": "The watchlist's id"}


Name = Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_NAME_LENGTH})]
Symbols = Annotated[list[str], Field(json_schema_extra={"maxItems": MAX_SYMBOLS, "uniqueItems": True})]


class WatchlistContent(Parameters):
    """What a watchlist is made of."""

    name: Name
    """Unlike those of one's other watchlists, whatever the case; blanks around it are left off."""
    symbols: Symbols = []
    """Ticker symbols in any order, kept in capitals, each once."""


class WatchlistChange(Parameters):
    """What becomes of a watchlist; what is left out stays as it is."""

    name: Name | None = None
    """As of a new one."""
    symbols: Symbols | None = None
    """All of them from now on, as of a new one."""


class WatchlistsAnswer(TypedDict):
    """All of one's watchlists, in the order of creation."""

    watchlists: list[WatchlistRow]
    count: int


class WatchlistAnswer(TypedDict):
    """One watchlist; its ``version`` is its ``ETag``."""

    watchlist: WatchlistRow


class WatchlistsResource(ListsResource):
    """All of one's own."""

    @operation("One's own watchlists", scope="read", responses={200: WatchlistsAnswer}, reads=True)
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveBuild[WorkspaceQueries]) -> None:
        """All of them."""
        watchlists = list((await read_workspace(req, live)).watchlists.values())
        send_private(req, resp, WatchlistsAnswer(watchlists=watchlists, count=len(watchlists)))

    @operation(
        "Begin a watchlist",
        scope="write",
        responses={201: WatchlistAnswer},
        body=WatchlistContent,
        problems=WRITE_PROBLEMS,
        writes=True,
        headers=CREATED,
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters) -> None:
        """The watchlist, with its id."""
        content = await read_body(req, WatchlistContent, MOST_BYTES)
        workspace, list_id = await self.begin(
            req,
            resp,
            lambda workspace, stamp, list_id: workspace.create_watchlist(stamp, list_id, content.name, content.symbols),
        )
        _send(req, resp, workspace, list_id)


class WatchlistResource(ListsResource):
    """One of one's own."""

    @operation(
        "One of one's own watchlists",
        scope="read",
        responses={200: WatchlistAnswer},
        path=LIST_ID,
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveBuild[WorkspaceQueries], list_id: str
    ) -> None:
        """The watchlist."""
        watchlist = (await read_workspace(req, live)).watchlists.get(list_id)
        if watchlist is None:
            raise not_found(f"watchlist {list_id!r} of this user")
        send_private(req, resp, WatchlistAnswer(watchlist=watchlist), str(watchlist["version"]))

    @operation(
        "Give a watchlist another name, other symbols, or both",
        scope="write",
        responses={200: WatchlistAnswer},
        path=LIST_ID,
        body=WatchlistChange,
        problems=(404, 412, *WRITE_PROBLEMS),
        writes=True,
        uses_if_match=True,
        headers=TAG,
    )
    async def on_put(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
        """The watchlist as it is then."""
        change = await read_body(req, WatchlistChange, MOST_BYTES)
        versions = expected(req)
        workspace = await self.do(
            req,
            resp,
            lambda workspace, stamp: workspace.change_watchlist(stamp, list_id, change.name, change.symbols, versions),
        )
        _send(req, resp, workspace, list_id)

    @operation(
        "Delete a watchlist",
        scope="write",
        responses={204: None},
        path=LIST_ID,
        problems=(404, 412, 503),
        writes=True,
        uses_if_match=True,
    )
    async def on_delete(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
        """Nothing."""
        versions = expected(req)
        await self.do(req, resp, lambda workspace, stamp: workspace.delete_watchlist(stamp, list_id, versions))
        resp.status = 204


def _send(req: Request, resp: Response, workspace: Workspace, list_id: str) -> None:
    watchlist = workspace.watchlists[list_id]
    send_private(req, resp, {"watchlist": asdict(watchlist)}, str(watchlist.version))
