"""``/api/users/universe`` and ``/api/users/universe/{key}``: the universes of the catalogue."""

from typing import TYPE_CHECKING, Any

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.queries import ALWAYS, Query, RowQueries
from projections.universes import UniverseRow, Universes
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.read_model import ReadModel
from readapi.http.responses import send_with_etag
from readapi.ports.read_models import LiveRows
from readapi.read_models.all_rows import all_rows
from readapi.read_models.schemas import document_type

SUMMARY, DETAILED = Universes.views["summary"], Universes.views["details"]

if TYPE_CHECKING:
    UniverseSummary = dict[str, Any]
    UniverseDetails = dict[str, Any]
else:
    UniverseSummary = document_type(Universes, SUMMARY, "UniverseSummary")
    UniverseDetails = document_type(Universes, DETAILED, "UniverseDetails")


class UniversesAnswer(TypedDict):
    """All universes, ordered by key, and their number."""

    universes: list[UniverseSummary]
    count: int


class UniverseAnswer(TypedDict):
    """One universe and its number of symbols."""

    universe: UniverseDetails
    count: int


class UniversesResource(Resource):
    """All universes."""

    def __init__(self, universes: ReadModel[RowQueries[UniverseRow]]) -> None:
        self.read_model = universes

    @operation("List all universes.", scope="read", responses={200: UniversesAnswer}, reads=True)
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveRows[UniverseRow]) -> None:
        """Send all universes."""
        universes = [SUMMARY.render(result, ALWAYS) async for result in all_rows(live.queries, Query(ALWAYS))]
        send_with_etag(req, resp, UniversesAnswer(universes=universes, count=len(universes)))


class UniverseResource(Resource):
    """One universe."""

    def __init__(self, universes: ReadModel[RowQueries[UniverseRow]]) -> None:
        self.read_model = universes

    @operation(
        "Show a universe and its symbols.",
        scope="read",
        responses={200: UniverseAnswer},
        path={"key": "Key of the universe, spelled as in the catalogue."},
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self,
        req: Request,
        resp: Response,
        _query: Parameters,
        *,
        live: LiveRows[UniverseRow],
        key: str,
    ) -> None:
        """Send the universe."""
        universe = await live.queries.get(key, ALWAYS)
        if universe is None:
            raise not_found(f"universe {key!r}")
        send_with_etag(
            req, resp, UniverseAnswer(universe=DETAILED.render(universe, ALWAYS), count=len(universe.row.symbols))
        )
