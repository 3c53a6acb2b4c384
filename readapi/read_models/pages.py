"""The pages of a read model for one request, from the live build or from the history, and their JSON envelope."""

from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.queries import MAX_OFFSET, Cursor, Page, Query, Timeline, TooDeepError
from projections.versions import Build
from projections.views import View
from readapi.http.cohort_scheduling import yield_to_cohort
from readapi.http.cursors import PageRequest, encode_cursor
from readapi.http.problems import Problem, invalid
from readapi.http.read_model import FRESH, ReadModel, Staleness
from readapi.http.responses import Encoded, tagged
from readapi.ports.read_models import LiveRows
from readapi.read_models.as_of import RowHistory
from readapi.read_models.downloads import Documents
from readapi.read_models.rendering import end_of_second, render_within

PAGE_BYTES = 4 * 1024 * 1024
"""Highest number of bytes of the rows on a page, or one row."""

CURSOR_ADVICE = "use the cursor in next to read further pages"
"""What to do if page numbers do not reach the page."""


class CacheInfo(TypedDict):
    """The read model that answered: its name, its version, and the build of this version (``4.2``)."""

    read_model: str
    version: int
    build: str


@lru_cache(maxsize=100)
def cache_info(read_model: str, build: Build) -> bytes:
    """Encode the member ``cache_info`` of answers from a build of a read model."""
    return orjson.dumps(CacheInfo(read_model=read_model, version=build.version, build=str(build)))


class Answer(NamedTuple):
    """A page of rows as of a moment, and where it comes from."""

    page: Page[Any]
    moment: float
    """Moment of the answer, in epoch seconds."""
    source: str
    """Origin of the answer: ``redis``, ``replica`` or ``archive``."""
    cache_info: bytes
    """``CacheInfo`` as JSON."""
    staleness: Staleness = FRESH

    def documents(self, view: View) -> Documents:
        """Return the documents of the rows of the page."""
        now = end_of_second(self.moment)
        return [view.render(result, now) for result in self.page.rows]


class EncodedAnswer(NamedTuple):
    """An answer with its rows as a JSON array."""

    answer: Answer
    rows: bytes


class Pages:
    """The pages of a read model for one request, all as of one moment."""

    moment: float
    """The moment, in epoch seconds."""
    source: str
    """Origin of the answers: ``redis``, ``replica`` or ``archive``."""

    async def read(self, query: Query) -> Answer:
        """Read a page. Raises Problem (400) if page numbers do not reach the page."""
        raise NotImplementedError

    async def read_encoded(self, query: Query, view: View) -> EncodedAnswer:
        """Read a page and encode its rows, at most ``PAGE_BYTES`` or one row.

        Large rows end a page early: its cursor leads to the others. Raises Problem (400) as ``read``.
        """
        answer = await self.read(query)
        await self.before_rendering()
        rows, number = render_within(answer.page.rows, view, end_of_second(answer.moment), PAGE_BYTES)
        while number < len(answer.page.rows):
            answer = await self.read(query._replace(limit=number))
            rows, number = render_within(answer.page.rows, view, end_of_second(answer.moment), PAGE_BYTES)
        return EncodedAnswer(answer, rows)

    async def before_rendering(self) -> None:
        """Let other requests reach the rendering of their rows, if the rows cannot change meanwhile."""

    async def read_all(self, query: Query, view: View) -> AsyncIterator[Documents]:
        """Read the first page. Return an iterator over its documents and those of all pages behind it.

        The documents of a page are made at once: rows of a replica can change at the next wait. Raises Problem (400) as
        ``read``.
        """
        first = await self.read(query)
        return self._following(query, view, first.documents(view), first.page.end)

    async def _following(
        self, query: Query, view: View, documents: Documents, end: Cursor | None
    ) -> AsyncIterator[Documents]:
        yield documents
        while end is not None:
            answer = await self.read(query._replace(after=end))
            end = answer.page.end
            yield answer.documents(view)


class LivePages(Pages):
    """The pages of a live build.

    Args:
        read_model: The read model.
        live: The build.
        moment: The present time, in epoch seconds.
    """

    def __init__(self, read_model: ReadModel[Any], live: LiveRows[Any], moment: float) -> None:
        self._read_model = read_model
        self._live = live
        self.moment = moment
        self.source = live.queries.source

    async def read(self, query: Query) -> Answer:
        """Read a page, as in the base class."""
        live, read_model = self._live, self._read_model
        try:
            page = await live.queries.page(query)
        except TooDeepError:
            raise too_deep(CURSOR_ADVICE) from None
        info = cache_info(read_model.name, live.build)
        return Answer(page, self.moment, live.queries.source, info, read_model.staleness())


class ImmediatePages(LivePages):
    """The pages of a live build for an immediate answer, during which no row changes (``readapi.http.immediate``)."""

    async def before_rendering(self) -> None:
        """Let the other requests of the cohort read their pages."""
        await yield_to_cohort()


class PastPages(Pages):
    """The pages of the history of a read model as of a moment.

    Args:
        read_model: The read model.
        history: Its history.
        req: The request.
        resp: The response, which gets the position of the history.
        past: The timeline and the moment in epoch seconds.
        now: The present time in epoch seconds.

    Raises:
        Problem: 400, the moment lies in the future, by the clock of this process or by the clock of the log.
    """

    def __init__(
        self,
        read_model: ReadModel[Any],
        history: RowHistory,
        req: Request,
        resp: Response,
        past: tuple[Timeline, float],
        now: float,
    ) -> None:
        self._timeline, self.moment = past
        self.source = history.source
        if self.moment > min(now, history.log_time()):
            name = "as_of" if self._timeline == "recorded" else "as_of_valid"
            clock = "" if self.moment > now else f" of the log, whose time is {history.log_time():.3f} (epoch seconds)"
            raise invalid([{"field": name, "reason": f"lies in the future{clock}"}])
        self._history = history
        self._request, self._response = req, resp
        self._recorded = read_model.live.positions

    async def read(self, query: Query) -> Answer:
        """Read a page, as in the base class."""
        history = self._history
        try:
            result = await history.page(self._request, self._response, query, self._timeline, self._recorded)
        except TooDeepError:
            raise too_deep(CURSOR_ADVICE) from None
        # The history has exactly one build per version.
        return Answer(result.page, self.moment, history.source, cache_info(history.name, Build(result.version, 1)))


def too_deep(advice: str) -> Problem:
    """Create the problem 400 for a page that page numbers cannot reach. ``advice`` tells the client what to do."""
    return invalid([{"field": "page", "reason": f"lies beyond the first {MAX_OFFSET:,} rows; {advice}"}])


_PAGE = (
    b'{"%b":%b,"pagination":{"page":%b,"per_page":%d,"total":%d,"pages":%d},"next":%b,'
    b'"cache_info":%b,"stale":%b,"age_seconds":%b%b}'
)


def encode_page(member: str, encoded: EncodedAnswer, request: PageRequest, hint: str | None) -> Encoded:
    """Encode the JSON document of a page.

    Args:
        member: The name of the member with the rows.
        encoded: The page with its encoded rows, and the build that answered.
        request: The page that the client requested.
        hint: The explanation of an empty page, if there is one.
    """
    answer, page = encoded.answer, encoded.answer.page
    age = answer.staleness["age_seconds"]
    return tagged(
        _PAGE
        % (
            member.encode(),
            encoded.rows,
            b"null" if request.cursor else b"%d" % (request.number or 1),
            request.size,
            page.total,
            -(-page.total // request.size),
            b'"%b"' % encode_cursor(page.end, request.order).encode() if page.end else b"null",
            answer.cache_info,
            b"true" if answer.staleness["stale"] else b"false",
            b"null" if age is None else b"%d" % age,
            b',"hint":' + orjson.dumps(hint) if hint else b"",
        )
    )
