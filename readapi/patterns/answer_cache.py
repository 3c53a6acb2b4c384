"""Remembers answers for as long as nothing has changed, so that the same question costs next to nothing."""

import time
from collections.abc import Callable, Hashable

from falcon.asgi import Request, Response

from projections.queries import PatternQueries
from readapi.http.cohort_scheduling import yield_to_cohort
from readapi.http.operation import Resource
from readapi.http.read_model import MIN_POSITION_HEADER, ReadModel
from readapi.http.responses import Encoded, send_encoded
from readapi.ports.read_models import LiveBuild

MAX_ANSWERS = 500
"""AnswerCache at once; the one that was made first makes room."""

MAX_BYTES = 4_194_304
"""What they take together, likewise."""

MAX_REQUESTS = 10_000
"""Of which it is known at once that they were asked."""


class AnswerCache:
    """Answers of one state. With another state, all are forgotten: nothing remembered is ever stale."""

    def __init__(self) -> None:
        self._state: Hashable = None
        self._answers: dict[str, Encoded] = {}
        self._bytes = 0
        self._asked: set[int] = set()
        """Hashes of questions."""

    def recall(self, state: Hashable, question: str) -> Encoded | None:
        """The answer to the same question in the same state."""
        return self._answers.get(question) if state == self._state else None

    def is_asked_again(self, question: str) -> bool:
        """Whether it was asked before, lately: to keep what nobody asks for again costs a tenth of a scan."""
        hashed = hash(question)
        if hashed in self._asked:
            return True
        if len(self._asked) >= MAX_REQUESTS:
            self._asked.clear()
        self._asked.add(hashed)
        return False

    def remember(self, state: Hashable, question: str, answer: Encoded) -> None:
        """An answer of this state."""
        if state != self._state:
            self._state, self._answers, self._bytes = state, {}, 0
        self._forget(question)
        self._answers[question] = answer
        self._bytes += len(answer.body)
        while len(self._answers) > MAX_ANSWERS or self._bytes > MAX_BYTES:
            self._forget(next(iter(self._answers)))

    def _forget(self, question: str) -> None:
        forgotten = self._answers.pop(question, None)
        if forgotten:
            self._bytes -= len(forgotten.body)


class CachedPatternResource(Resource):
    """A resource of the active patterns whose answers are the same for the same query string, in the same second."""

    def __init__(self, patterns: ReadModel[PatternQueries], clock: Callable[[], float]) -> None:
        self.read_model = patterns
        self._clock = clock
        self._remembered = AnswerCache()

    def send_cached(self, req: Request, resp: Response) -> bool:
        """Answer as in this second the same question was answered, if nothing has changed since."""
        if req.get_header(MIN_POSITION_HEADER) is not None:
            return False
        live = self.read_model.live
        state = self._state(live, self._clock())
        answer = self._remembered.recall(state, req.query_string) if state else None
        if answer is None:
            return False
        self.read_model.set_freshness_headers(resp, live)
        send_encoded(req, resp, answer, performance(req, live.queries.source))
        return True

    async def send_remembered(
        self, req: Request, resp: Response, answer: Encoded, live: LiveBuild[PatternQueries], now: float
    ) -> None:
        """Remember what was answered at ``now``, before anything changes, if it has been asked again; and send it."""
        if self._remembered.is_asked_again(req.query_string) and (state := self._state(live, now)):
            self._remembered.remember(state, req.query_string, answer)
        await yield_to_cohort()
        send_encoded(req, resp, answer, performance(req, live.queries.source))

    def _state(self, live: LiveBuild[PatternQueries], now: float) -> tuple[Hashable, ...] | None:
        """What everything in an answer is from; None where that is not known without asking."""
        state = live.queries.state(now)
        return None if state is None else (state, int(now), self.read_model.stale_seconds())


def performance(req: Request, source: str) -> bytes:
    """The member that says how long the answer took in the server, and where it came from."""
    milliseconds = (time.perf_counter() - req.context.started) * 1_000
    return b'"performance":{"api_response_time_ms":%.3f,"source":"%b"}' % (milliseconds, source.encode())
