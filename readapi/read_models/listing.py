"""``/api/read-models``: every read model with its columns, queries, build, positions and number of rows."""

from asyncio import gather
from collections.abc import Sequence

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.queries import Query
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.responses import send_with_etag
from readapi.ports.errors import UnavailableError
from readapi.read_models.page_parameters import sort_keys
from readapi.read_models.resources import ServedReadModel
from readapi.read_models.schemas import ColumnDocument, column_documents


class ReadModelDocument(TypedDict):
    """A read model.

    ``key`` is the name of the key of a row. ``scope`` is the scope that a client needs to query the rows; it is null if
    the read model has no endpoint of its own. ``order`` is the default sort key. ``ends`` is the column of the moment
    at which a row ends. ``counts`` and ``views`` are names. ``as_of`` tells whether queries can ask about the past.
    ``version`` and ``build`` are those that answer now. ``position`` has the positions up to which the build is folded.
    ``rows`` is the number of rows that have not ended; it is null while it is unknown.
    """

    name: str
    key: str
    scope: str | None
    columns: list[ColumnDocument]
    filters: list[str]
    sorts: list[str]
    counts: list[str]
    views: list[str]
    order: str
    ends: str | None
    as_of: bool
    version: int
    build: str
    position: str
    rows: int | None


class ReadModelsAnswer(TypedDict):
    """All read models and their number."""

    read_models: list[ReadModelDocument]
    count: int


class ReadModelsResource(Resource):
    """All read models."""

    def __init__(self, models: Sequence[ServedReadModel]) -> None:
        self._models = models

    @operation("List all read models with their columns and queries.", scope="read", responses={200: ReadModelsAnswer})
    async def on_get(self, req: Request, resp: Response, _query: Parameters) -> None:
        """Send the declarations and the state of all read models."""
        documents = await gather(*map(_document, self._models))
        send_with_etag(req, resp, ReadModelsAnswer(read_models=documents, count=len(documents)))


async def _document(served: ServedReadModel) -> ReadModelDocument:
    projection, live = served.projection, served.read_model.live
    columns = column_documents(projection)
    return ReadModelDocument(
        name=projection.name,
        key=projection.key,
        scope=projection.scope,
        columns=columns,
        filters=list(dict.fromkeys((projection.key, *(name for column in columns for name in column["filters"])))),
        sorts=list(sort_keys(projection)),
        counts=[count.name for count in projection.counts],
        views=list(projection.views),
        order=projection.order or projection.key,
        ends=projection.ends,
        as_of=projection.history is not None,
        version=live.build.version,
        build=str(live.build),
        position=live.formatted_positions,
        rows=await _number_of_rows(served),
    )


async def _number_of_rows(served: ServedReadModel) -> int | None:
    """Return the number of rows. None for a read model that only the service itself reads, or that is being loaded."""
    if served.projection.scope is None:
        return None
    try:
        return (await served.read_model.live.queries.page(Query(served.clock(), limit=0))).total
    except UnavailableError:
        return None
