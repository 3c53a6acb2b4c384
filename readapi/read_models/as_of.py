"""Queries as of a moment: access to the history of a read model in the archive."""

import asyncio
import time
from collections.abc import Callable

from falcon.asgi import Request, Response

from projections.queries import HistoryPage, HistoryQueries, Positions, Query, Timeline
from readapi.http.problems import no_archive
from readapi.http.read_model import POSITION_HEADER, position_not_reached, requested_positions
from readapi.ports.read_models import format_positions

POLL_SECONDS = 0.05
"""Seconds between two reads of the history's positions while a request waits for a position."""


class RowHistory:
    """The history of a read model, as endpoints use it.

    Args:
        name: The name of the history (see ``Projection.history``).
        queries: The queries. None without an archive.
        wait_seconds: Longest wait for a position, in seconds.
        log_time: Returns the time in epoch seconds by the clock of the log, infinity while it is unknown.
    """

    source = "archive"

    def __init__(
        self, name: str, queries: HistoryQueries | None, wait_seconds: float, log_time: Callable[[], float]
    ) -> None:
        self.name = name
        self.log_time = log_time
        self._queries = queries
        self._wait_seconds = wait_seconds

    async def page(
        self, req: Request, resp: Response, query: Query, timeline: Timeline, recorded: Positions
    ) -> HistoryPage:
        """Return a page of the rows as of ``query.now``, and set the position header of the response.

        The answer waits until the history has reached the position that the client requires. On the timeline
        ``recorded`` it also waits until the history contains every event that was recorded up to ``query.now``.

        Args:
            req: The request.
            resp: The response.
            query: The query. ``now`` is the moment in the past.
            timeline: The timeline of the moment.
            recorded: Log -> position up to which events are known to be recorded.

        Raises:
            Problem: 400 for malformed positions, 503 without an archive, 504 if a position is not reached in time.
            UnavailableError: The archive cannot be reached.
            TooDeepError: The page lies beyond the rows that page numbers reach.
        """
        if self._queries is None:
            raise no_archive()
        deadline = time.monotonic() + self._wait_seconds
        required = requested_positions(req)
        if required is not None:
            await self._wait_for(self._queries, required, deadline)
            req.context.started = time.perf_counter()
        answer = await self._queries.page(query, timeline)
        while timeline == "recorded" and (missing := _missing(answer, query.now, recorded)):
            await self._pause(deadline, answer.positions, missing)
            answer = await self._queries.page(query, timeline)
        resp.set_header(POSITION_HEADER, format_positions(answer.positions))
        return answer

    async def _wait_for(self, queries: HistoryQueries, required: Positions, deadline: float) -> None:
        while True:
            folded = await queries.folded()
            if all(folded.get(log, -1) >= position for log, position in required.items()):
                return
            await self._pause(deadline if required.keys() <= folded.keys() else 0, folded, required)

    async def _pause(self, deadline: float, folded: Positions, required: Positions) -> None:
        """Sleep before the positions are read again. Raises Problem (504) after the deadline."""
        seconds_left = deadline - time.monotonic()
        if seconds_left <= 0:
            raise position_not_reached(self.name, folded, required, self._wait_seconds)
        await asyncio.sleep(min(POLL_SECONDS, seconds_left))


def _missing(answer: HistoryPage, moment: float, recorded: Positions) -> Positions:
    """Return the recorded positions that the answer has not reached, for logs that may lack events up to the moment."""
    return {
        log: position
        for log, position in recorded.items()
        if answer.positions[log] < position and answer.recorded_at[log] <= moment
    }
