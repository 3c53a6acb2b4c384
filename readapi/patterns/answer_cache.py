"""The answer cache: encoded answers of the read model ``patterns``, which are valid until the read model changes."""

from collections.abc import Callable, Hashable

from falcon.asgi import Request, Response

from projections.patterns import PatternRow
from projections.queries import RowQueries
from readapi.http.cohort_scheduling import yield_to_cohort
from readapi.http.operation import Resource
from readapi.http.read_model import MIN_POSITION_HEADER, ReadModel
from readapi.http.responses import Encoded, performance, send_encoded
from readapi.ports.read_models import LiveRows

MAX_ANSWERS = 500
"""Highest number of cached answers. The oldest answer is removed first."""

MAX_BYTES = 4_194_304
"""Highest number of bytes of all cached answers. The oldest answer is removed first."""

MAX_REQUESTS = 10_000
"""Highest number of query strings known to have been requested."""


class AnswerCache:
    """A cache of encoded answers, keyed by query string, for one state of the read model.

    A new state empties the cache, so a cached answer is never stale. An answer is worth caching only if its query
    string is requested again: the cache remembers hashes of query strings for this purpose. All methods take constant
    time.
    """

    def __init__(self) -> None:
        self._state: Hashable = None
        self._answers: dict[str, Encoded] = {}
        self._bytes = 0
        self._requested: set[int] = set()
        """Hashes of query strings."""

    def __contains__(self, query_string: str) -> bool:
        return query_string in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, state: Hashable, query_string: str) -> Encoded | None:
        """Return the answer to a query string in this state. None if it is not cached."""
        return self._answers.get(query_string) if state == self._state else None

    def note_request(self, query_string: str) -> bool:
        """Note a request, and tell whether the same query string was requested before.

        Caching an answer costs a tenth of a scan, which is wasted on a query string that is requested only once.
        """
        hashed = hash(query_string)
        if hashed in self._requested:
            return True
        if len(self._requested) >= MAX_REQUESTS:
            self._requested.clear()
        self._requested.add(hashed)
        return False

    def put(self, state: Hashable, query_string: str, answer: Encoded) -> None:
        """Cache an answer given in this state. Removes all answers of another state."""
        if state != self._state:
            self._state, self._answers, self._bytes = state, {}, 0
        self._remove(query_string)
        self._answers[query_string] = answer
        self._bytes += len(answer.body)
        while len(self._answers) > MAX_ANSWERS or self._bytes > MAX_BYTES:
            self._remove(next(iter(self._answers)))

    def _remove(self, query_string: str) -> None:
        removed = self._answers.pop(query_string, None)
        if removed:
            self._bytes -= len(removed.body)


class CachedPatternResource(Resource):
    """A resource of the active patterns whose answer depends on the query string, the state and the current second.

    Args:
        patterns: The read model.
        clock: Returns the time in epoch seconds.
    """

    def __init__(self, patterns: ReadModel[RowQueries[PatternRow]], clock: Callable[[], float]) -> None:
        self.read_model = patterns
        self._clock = clock
        self._cache = AnswerCache()

    @property
    def cached_answers(self) -> int:
        """The number of cached answers."""
        return len(self._cache)

    def send_cached(self, req: Request, resp: Response) -> bool:
        """Send the cached answer and return True. Return False if no cached answer is valid."""
        # Most requests of a varied load end here, before their state is computed.
        if req.query_string not in self._cache or req.get_header(MIN_POSITION_HEADER) is not None:
            return False
        live = self.read_model.live
        answer = self.cached_answer(req, live, self._clock())
        if answer is None:
            return False
        self.read_model.set_freshness_headers(resp, live)
        send_encoded(req, resp, answer, performance(req, live.queries.source))
        return True

    def cached_answer(self, req: Request, live: LiveRows[PatternRow], now: float) -> Encoded | None:
        """Return the cached answer of a build at the time ``now``, in epoch seconds. None if none is valid."""
        if req.query_string not in self._cache:
            return None
        state = self._state(live, now)
        return self._cache.get(state, req.query_string) if state else None

    def cache_repeated(self, req: Request, answer: Encoded, live: LiveRows[PatternRow], now: float) -> None:
        """Cache an answer if its query string was requested before.

        Call this method before the read model can change, that is without an ``await`` after the query.

        Args:
            req: The request.
            answer: The answer.
            live: The build that answered.
            now: Moment of the answer, in epoch seconds.
        """
        if self._cache.note_request(req.query_string) and (state := self._state(live, now)):
            self._cache.put(state, req.query_string, answer)

    async def send_and_cache(
        self, req: Request, resp: Response, answer: Encoded, live: LiveRows[PatternRow], now: float
    ) -> None:
        """Send an answer, and cache it as ``cache_repeated`` does. ``resp`` is the response."""
        self.cache_repeated(req, answer, live, now)
        await yield_to_cohort()
        send_encoded(req, resp, answer, performance(req, live.queries.source))

    def _state(self, live: LiveRows[PatternRow], now: float) -> tuple[Hashable, ...] | None:
        """Return everything on which an answer depends besides the query string. None if this needs I/O."""
        state = live.queries.state(now)
        return None if state is None else (state, int(now), self.read_model.stale_seconds())
