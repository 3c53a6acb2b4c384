"""``/api/users/universe`` and ``/api/users/universe/{key}``: the universes of the catalogue."""

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from readapi.catalogue.filters import loaded
from readapi.catalogue.rendering import UniverseDetails, UniverseSummary, universe_details, universe_summary
from readapi.catalogue.replicas import UniverseReplica, UnloadedReplica
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.read_model import ReadModel
from readapi.http.responses import send_with_etag
from readapi.ports.read_models import LiveBuild


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

    def __init__(self, universes: ReadModel[UniverseReplica | UnloadedReplica]) -> None:
        self.read_model = universes

    @operation("List all universes.", scope="read", responses={200: UniversesAnswer}, reads=True)
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, live: LiveBuild[UniverseReplica | UnloadedReplica]
    ) -> None:
        """Send all universes."""
        rows = loaded(live).rows
        universes = [universe_summary(rows[key].row) for key in sorted(rows)]
        send_with_etag(req, resp, UniversesAnswer(universes=universes, count=len(universes)))


class UniverseResource(Resource):
    """One universe."""

    def __init__(self, universes: ReadModel[UniverseReplica | UnloadedReplica]) -> None:
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
        live: LiveBuild[UniverseReplica | UnloadedReplica],
        key: str,
    ) -> None:
        """Send the universe."""
        universe = loaded(live).get(key)
        if universe is None:
            raise not_found(f"universe {key!r}")
        send_with_etag(req, resp, UniverseAnswer(universe=universe_details(universe), count=len(universe.row.symbols)))
