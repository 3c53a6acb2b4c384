"""The endpoints of a read model: its rows, one row, and its counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.base import Projection
from projections.queries import ResultRow, RowQueries
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import invalid, not_found
from readapi.http.read_model import ReadModel
from readapi.http.responses import Pagination, Performance, performance, send_encoded, send_with_etag
from readapi.ports.read_models import LiveRows
from readapi.read_models.all_rows import first_batch
from readapi.read_models.as_of import RowHistory
from readapi.read_models.downloads import ARROW, CSV, FILE_ENDINGS, NDJSON, download_type, open_encoder, stream
from readapi.read_models.hints import FilterValues
from readapi.read_models.page_parameters import PageParameters, page_parameters, unused_in_download
from readapi.read_models.pages import CacheInfo, LivePages, Pages, PastPages, encode_page
from readapi.read_models.rendering import all_columns, end_of_second
from readapi.read_models.schemas import document_type, member_types

Rows = RowQueries[Any]


@dataclass(frozen=True)
class ServedReadModel:
    """A read model with everything that its endpoints need."""

    read_model: ReadModel[Rows]
    history: RowHistory | None
    """The history of the rows. None: the projection has no history."""
    clock: Callable[[], float]
    """Returns the time in epoch seconds."""

    @property
    def projection(self) -> Projection[Any, Any]:
        """The projection of the read model."""
        return self.read_model.projection

    @property
    def type_name(self) -> str:
        """The beginning of the names of the types in the OpenAPI document."""
        return "".join(map(str.capitalize, self.projection.name.split("_")))


class Provenance(TypedDict):
    """The event that last changed a row: its log and position, and its id, producer and correlation id if known."""

    log: str
    position: int
    event_id: str | None
    producer: str | None
    correlation_id: str | None


class CountsAnswer(TypedDict):
    """The number of rows of each group, the most frequent group first, at most 1,000 groups.

    ``total`` is the number of all counted rows and ``distinct`` the number of all groups.
    """

    counts: dict[str, int]
    total: int
    distinct: int
    stale: bool
    age_seconds: int | None


def read_model_routes(served: ServedReadModel) -> Mapping[str, Resource]:
    """Return the resources of a read model by path."""
    name, key = served.projection.name, served.projection.key
    return {
        f"/api/read-models/{name}": rows_resource(served),
        f"/api/read-models/{name}/counts/{{count}}": counts_resource(served),
        f"/api/read-models/{name}/{{{key}:path}}": row_resource(served),
    }


def rows_resource(served: ServedReadModel) -> Resource:
    """Create the resource of the rows of a read model."""
    projection = served.projection
    parameters = page_parameters(projection, f"{served.type_name}Parameters")

    class RowsResource(Resource):
        read_model = served.read_model

        async def prepare(self, req: Request, resp: Response, query: PageParameters) -> LiveRows[Any] | None:
            """Return the live build. None for a moment in the past, which the history answers."""
            return None if query.past else await self.read_model.prepare(req, resp)

        @operation(
            f"Filter, sort and page the rows of {projection.name}, or download all of them.",
            scope=projection.scope,
            responses={200: _page_type(served)},
            query=parameters,
            downloads=(CSV, NDJSON, ARROW),
            problems=(406,),
            reads=True,
        )
        async def on_get(self, req: Request, resp: Response, query: PageParameters, live: LiveRows[Any] | None) -> None:
            """Send one page as JSON, or all rows as CSV, NDJSON or Arrow."""
            pages = _pages(served, req, resp, query, live)
            if media_type := download_type(req):
                await _send_download(resp, served, pages, query, media_type)
            else:
                await _send_page(req, resp, pages, query, live)

    return RowsResource()


def _pages(
    served: ServedReadModel, req: Request, resp: Response, query: PageParameters, live: LiveRows[Any] | None
) -> Pages:
    now = served.clock()
    if live:
        return LivePages(served.read_model, live, now)
    assert query.past is not None
    assert served.history is not None
    return PastPages(served.read_model, served.history, req, resp, query.past, now)


async def _send_page(
    req: Request, resp: Response, pages: Pages, query: PageParameters, live: LiveRows[Any] | None
) -> None:
    rows_query = query.query(pages.moment)
    values = FilterValues(query.projection, rows_query.filters)
    if live:
        await values.check(live.queries, pages.moment)
    page = await pages.read_encoded(rows_query, query.view)
    answer = page.answer
    if answer.page.total:
        hint = values.spellings(answer.page.rows, query.view.columns)
    else:
        hint = await values.hint(live.queries, pages.moment) if live else None
    send_encoded(req, resp, encode_page("rows", page, query.requested_page, hint), performance(req, answer.source))


async def _send_download(
    resp: Response, served: ServedReadModel, pages: Pages, query: PageParameters, media_type: str
) -> None:
    if unused := unused_in_download(query):
        raise invalid([{"field": name, "reason": "does not apply to a download of all rows"} for name in unused])
    view, rows_query = query.view, first_batch(query.query(pages.moment))
    encoder = open_encoder(media_type, member_types(served.projection, view))
    batches = await pages.read_all(rows_query, view)
    resp.content_type = f"{media_type}; charset=utf-8" if media_type == CSV else media_type
    resp.downloadable_as = f"{served.projection.name}.{FILE_ENDINGS[media_type]}"
    resp.set_header("Cache-Control", "no-cache")
    resp.stream = stream(encoder, batches)


def row_resource(served: ServedReadModel) -> Resource:
    """Create the resource of one row of a read model."""
    projection = served.projection
    view = all_columns(projection)

    class RowResource(Resource):
        read_model = served.read_model

        @operation(
            f"Show one row of {projection.name} and its provenance.",
            scope=projection.scope,
            responses={200: _row_type(served)},
            path={projection.key: "Key of the row, percent-encoded."},
            problems=(404,),
            reads=True,
        )
        async def on_get(
            self, req: Request, resp: Response, _query: Parameters, *, live: LiveRows[Any], **path: str
        ) -> None:
            """Send the row, or 404 if there is no such row."""
            now, key = served.clock(), path[projection.key]
            result = await live.queries.get(key, now)
            if result is None:
                raise not_found(f"row {key!r} in {projection.name}")
            content = {
                "row": view.render(result, end_of_second(now)),
                "provenance": provenance_of(result),
                **self.read_model.staleness(),
            }
            send_with_etag(req, resp, content)

    return RowResource()


def provenance_of(result: ResultRow[Any]) -> Provenance:
    """Return the provenance of a row."""
    row = result.row
    return Provenance(
        log=result.log,
        position=result.position,
        event_id=getattr(row, "event_id", None),
        producer=getattr(row, "source", None),
        correlation_id=getattr(row, "correlation_id", None),
    )


def counts_resource(served: ServedReadModel) -> Resource:
    """Create the resource of the counts of a read model."""
    projection = served.projection
    names = [count.name for count in projection.counts]

    class CountsResource(Resource):
        read_model = served.read_model

        @operation(
            f"Count the rows of {projection.name} by group.",
            scope=projection.scope,
            responses={200: CountsAnswer},
            path={"count": f"Name of the count: {', '.join(names) or 'none is declared'}."},
            problems=(404,),
            reads=True,
        )
        async def on_get(
            self, req: Request, resp: Response, _query: Parameters, *, live: LiveRows[Any], count: str
        ) -> None:
            """Send the count, or 404 if the read model declares no such count."""
            if count not in names:
                raise not_found(f"count {count!r} of {projection.name}; known: {', '.join(names) or 'none'}")
            counted = (await live.queries.counts([count], served.clock()))[count]
            answer = CountsAnswer(
                counts=dict(counted.groups),
                total=counted.total,
                distinct=counted.distinct,
                **self.read_model.staleness(),
            )
            send_with_etag(req, resp, answer)

    return CountsResource()


def _page_type(served: ServedReadModel) -> Any:
    projection, name = served.projection, served.type_name
    views = [
        document_type(projection, view, f"{name}{view_name.capitalize()}View")
        for view_name, view in projection.views.items()
    ]
    row: Any = document_type(projection, all_columns(projection), f"{name}Members", is_complete=False)
    for view in views:
        row = view | row
    members = {
        "rows": list[row],
        "pagination": Pagination,
        "next": str | None,
        "hint": NotRequired[str],
        "cache_info": CacheInfo,
        "stale": bool,
        "age_seconds": int | None,
        "performance": Performance,
    }
    return TypedDict(f"{name}Rows", members)  # type: ignore[operator]


def _row_type(served: ServedReadModel) -> Any:
    row = document_type(served.projection, all_columns(served.projection), f"{served.type_name}Row")
    members = {"row": row, "provenance": Provenance, "stale": bool, "age_seconds": int | None}
    return TypedDict(f"{served.type_name}RowAnswer", members)  # type: ignore[operator]
