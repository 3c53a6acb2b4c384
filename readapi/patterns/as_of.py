"""The scan as of a moment: how the read model ``pattern_history`` is served."""

import asyncio
import time

from falcon.asgi import Request, Response

from projections import pattern_history
from projections.pattern_history import Timeline
from projections.queries import HistoryPage, PatternHistoryQueries, PatternQuery, Positions
from readapi.http.problems import no_archive
from readapi.http.read_model import POSITION_HEADER, position_not_reached, requested_positions
from readapi.ports.read_models import format_positions

POLL_SECONDS = 0.05
"""Between two looks at how far the history is folded, while a read waits for it."""


class PatternHistory:
    """The read model ``pattern_history``; without ``queries`` where there is no archive."""

    name = pattern_history.NAME
    source = "archive"

    def __init__(self, queries: PatternHistoryQueries | None, wait_seconds: float) -> None:
        self._queries = queries
        self._wait_seconds = wait_seconds

    async def scan(
        self, req: Request, resp: Response, query: PatternQuery, timeline: Timeline, recorded: Positions
    ) -> HistoryPage:
        """The page as of ``query.now``, once the position is known that the client asks for.

        By the time of recording it is whole: it waits for the history of what is ``recorded``, positions by log, up to
        that moment. The answer says up to which position it is. Raises Problem (400, 503, 504), UnavailableError,
        TooDeepError.
        """
        if self._queries is None:
            raise no_archive()
        deadline = time.monotonic() + self._wait_seconds
        wanted = requested_positions(req)
        if wanted is not None:
            await self._reach(self._queries, wanted, deadline)
            req.context.started = time.perf_counter()
        answer = await self._queries.scan(query, timeline)
        while timeline == "recorded" and (lacking := _lacking(answer, query.now, recorded)):
            await self._pause(deadline, answer.positions, lacking)
            answer = await self._queries.scan(query, timeline)
        resp.set_header(POSITION_HEADER, format_positions(answer.positions))
        return answer

    async def _reach(self, queries: PatternHistoryQueries, wanted: Positions, deadline: float) -> None:
        while True:
            folded = await queries.folded()
            if all(folded.get(log, -1) >= position for log, position in wanted.items()):
                return
            await self._pause(deadline if wanted.keys() <= folded.keys() else 0, folded, wanted)

    async def _pause(self, deadline: float, folded: Positions, wanted: Positions) -> None:
        """Wait for a moment. Raises Problem (504) when there is no time left for it."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise position_not_reached(self.name, folded, wanted, self._wait_seconds)
        await asyncio.sleep(min(POLL_SECONDS, left))


def _lacking(answer: HistoryPage, moment: float, recorded: Positions) -> Positions:
    """Of what is recorded, that which may have been recorded up to the moment, and is not in the answer."""
    return {
        log: position
        for log, position in recorded.items()
        if answer.positions[log] < position and answer.recorded_at[log] <= moment
    }
