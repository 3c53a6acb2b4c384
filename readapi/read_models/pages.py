"""The pages of a read model for one request, from the live build or from the history, and their JSON envelope."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import orjson
from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.queries import MAX_OFFSET, Page, Query, Timeline, TooDeepError
from projections.versions import Build
from projections.views import View
from readapi.http.cursors import PageRequest, encode_cursor
from readapi.http.problems import Problem, invalid
from readapi.http.read_model import FRESH, ReadModel, Staleness
from readapi.http.responses import pagination
from readapi.ports.read_models import LiveRows
from readapi.read_models.as_of import RowHistory
from readapi.read_models.rendering import end_of_second, render


class CacheInfo(TypedDict):
    """The read model that answered: its name, its version, and the build of this version (``4.2``)."""

    read_model: str
    version: int
    build: str


class Answer(NamedTuple):
    """A page of rows as of a moment, and the build that answered."""

    page: Page[Any]
    moment: float
    """Moment of the answer, in epoch seconds."""
    read_model: str
    build: Build
    source: str
    """Origin of the answer: ``redis``, ``replica`` or ``archive``."""
    staleness: Staleness = FRESH

    def documents(self, view: View) -> list[dict[str, Any]]:
        """Return the documents of the rows of the page."""
        now = end_of_second(self.moment)
        return [view.render(result, now) for result in self.page.rows]


class PageSource(NamedTuple):
    """The source of the answers to one request, all as of one moment."""

    moment: float
    """The moment, in epoch seconds."""
    answer: Callable[[Query], Awaitable[Answer]]
    """Answers a query. Raises TooDeepError."""

    async def read(self, query: Query) -> Answer:
        """Read a page. Raises Problem (400) if page numbers do not reach the page."""
        try:
            return await self.answer(query)
        except TooDeepError:
            raise too_deep("use the cursor in next to read further pages") from None

    async def following(self, query: Query, first: Answer) -> AsyncIterator[Answer]:
        """Yield the first answer to a query and the answers to all pages behind it."""
        answer, end = first, first.page.end
        yield answer
        while end is not None:
            answer = await self.answer(query._replace(after=end))
            end = answer.page.end
            yield answer


def live_pages(read_model: ReadModel[Any], live: LiveRows[Any], moment: float) -> PageSource:
    """Answer from a live build at ``moment``, the present time in epoch seconds."""

    async def answer(query: Query) -> Answer:
        page = await live.queries.page(query)
        return Answer(page, moment, read_model.name, live.build, live.queries.source, read_model.staleness())

    return PageSource(moment, answer)


def past_pages(
    read_model: ReadModel[Any],
    history: RowHistory,
    req: Request,
    resp: Response,
    past: tuple[Timeline, float],
    now: float,
) -> PageSource:
    """Answer from the history of a read model as of a moment.

    Args:
        read_model: The read model.
        history: Its history.
        req: The request.
        resp: The response, which gets the position of the history.
        past: The timeline and the moment in epoch seconds.
        now: The present time in epoch seconds.

    Raises:
        Problem: 400, the moment lies in the future.
    """
    timeline, moment = past
    if moment > now:
        name = "as_of" if timeline == "recorded" else "as_of_valid"
        raise invalid([{"field": name, "reason": "lies in the future"}])
    recorded = read_model.live.positions

    async def answer(query: Query) -> Answer:
        result = await history.page(req, resp, query, timeline, recorded)
        # The history has exactly one build per version.
        return Answer(result.page, moment, history.name, Build(result.version, 1), history.source)

    return PageSource(moment, answer)


def too_deep(advice: str) -> Problem:
    """Create the problem 400 for a page that page numbers cannot reach. ``advice`` tells the client what to do."""
    return invalid([{"field": "page", "reason": f"lies beyond the first {MAX_OFFSET:,} rows; {advice}"}])


def envelope(member: str, answer: Answer, view: View, request: PageRequest, hint: str | None) -> dict[str, Any]:
    """Return the JSON document of a page.

    Args:
        member: The name of the member with the rows.
        answer: The page and the build that answered.
        view: The view in which the rows are shown.
        request: The page that the client requested.
        hint: The explanation of an empty page, if there is one.
    """
    page, build = answer.page, answer.build
    content = {
        member: orjson.Fragment(render(page.rows, view, end_of_second(answer.moment))),
        "pagination": pagination(None if request.cursor else request.number or 1, request.size, page.total),
        "next": encode_cursor(page.end, request.order) if page.end else None,
        "cache_info": CacheInfo(read_model=answer.read_model, version=build.version, build=str(build)),
        **answer.staleness,
    }
    if hint:
        content["hint"] = hint
    return content
