"""Read models as the API serves them.

Each request is answered from a single build, the build that is live when the request begins. The header
``TickView-Position`` says how fresh a response is. With the header ``TickView-Min-Position``, a client waits for a
position.
"""

import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from domain.streams import MARKET_LOG, USERS_LOG, family_of
from projections.base import Projection
from projections.queries import Positions
from readapi.http.problems import Problem, invalid
from readapi.ports.read_models import Freshness, LiveBuild, LiveBuilds

POSITION_HEADER = "TickView-Position"
MIN_POSITION_HEADER = "TickView-Min-Position"

POSITIONS_PATTERN = "^[a-z][a-z0-9-]{0,31}=[0-9]{1,15}(,[a-z][a-z0-9-]{0,31}=[0-9]{1,15}){0,64}$"
_POSITIONS = re.compile(POSITIONS_PATTERN, re.ASCII)

Queries = TypeVar("Queries")

STALE_WARNING = '110 tickview "Response is Stale"'
"""Value of the header ``Warning`` (RFC 7234, section 5.5.1) while the store is unavailable."""


class Staleness(TypedDict):
    """Whether the store is unavailable, and the seconds since the store last answered."""

    stale: bool
    age_seconds: int | None


FRESH = Staleness(stale=False, age_seconds=None)


class ReadModel(Generic[Queries]):
    """One read model, with waits for positions and with freshness headers.

    Args:
        projection: The projection of the read model.
        builds: The live builds of the read model.
        wait_seconds: Highest number of seconds that a request waits for a position.
        freshness: Says whether the store is available. None if every query reaches the store.
    """

    def __init__(
        self,
        projection: Projection[Any, Any],
        builds: LiveBuilds[Queries],
        wait_seconds: float,
        freshness: Freshness | None = None,
    ) -> None:
        self.projection = projection
        self.name = projection.name
        self._builds = builds
        self._wait_seconds = wait_seconds
        self._freshness = freshness

    @property
    def live(self) -> LiveBuild[Queries]:
        """The live build. A request must take the live build only once, because the live build may change."""
        return self._builds.current

    async def prepare(self, req: Request, resp: Response) -> LiveBuild[Queries]:
        """Wait for the requested position, set the freshness headers and return the build to answer from.

        The position in the header is taken before the query, so that it is never higher than the position of the
        response's content. Raises Problem (400, 504).
        """
        live = await self.wait_for_position(req)
        self.set_freshness_headers(resp, live)
        return live

    async def wait_for_position(self, req: Request) -> LiveBuild[Queries]:
        """Return the live build as soon as it has reached the requested position.

        The wait does not count as response time. Raises Problem (400, 504).
        """
        requested = requested_positions(req, self.projection.family)
        if requested is None:
            return self.live
        live = await self._builds.reached(requested, self._wait_seconds)
        if live is None:
            raise position_not_reached(self.name, self.live.positions, requested, self._wait_seconds)
        req.context.started = time.perf_counter()
        return live

    def set_freshness_headers(self, resp: Response, live: LiveBuild[Queries]) -> None:
        """Set the position of the response, and a warning if the response is stale."""
        for name, value in self._freshness_headers(live):
            resp.set_header(name, value)

    def freshness_lines(self, live: LiveBuild[Queries]) -> bytes:
        """Return the same headers as lines of a response."""
        return "".join([f"{name.lower()}: {value}\r\n" for name, value in self._freshness_headers(live)]).encode()

    def _freshness_headers(self, live: LiveBuild[Queries]) -> list[tuple[str, str]]:
        position = (POSITION_HEADER, live.formatted_positions)
        return [position] if self.stale_seconds() is None else [position, ("Warning", STALE_WARNING)]

    def stale_seconds(self) -> int | None:
        """Return the seconds since the store last answered, or None while the store is available."""
        age = self._freshness.age() if self._freshness else None
        return None if age is None else int(age)

    def staleness(self) -> Staleness:
        """Return the members of a response that say whether it is stale."""
        age = self.stale_seconds()
        return FRESH if age is None else Staleness(stale=True, age_seconds=age)


def position_not_reached(name: str, folded: Positions, requested: Positions, wait_seconds: float) -> Problem:
    """Create the problem 504 for a wait that timed out.

    Args:
        name: The name of the read model.
        folded: The positions that the read model has reached.
        requested: The positions that the client requested.
        wait_seconds: The seconds for which the request waited.
    """
    lags = [
        f"{log} is at {folded[log]}, not at {position}" if log in folded else f"{log} is not a log of this read model"
        for log, position in requested.items()
        if folded.get(log, -1) < position
    ]
    return Problem(
        HTTPStatus.GATEWAY_TIMEOUT,
        "position-not-reached",
        f"the read model {name} did not reach the requested position within {wait_seconds:g} s: "
        f"{'; '.join(lags) or 'it has reached the position just now; try again'}",
    )


def requested_positions(req: Request, family: str = MARKET_LOG) -> Positions | None:
    """Return the positions for which the client wants to wait, or None if the client does not want to wait.

    A client may send back every position that it received. Positions in logs that read models of this family do not
    fold are left out. A log of an unknown family stays in the result, and no read model ever reaches it.

    Raises:
        Problem: The header is malformed (400).
    """
    header = req.get_header(MIN_POSITION_HEADER)
    if header is None:
        return None
    other_families = {MARKET_LOG, USERS_LOG} - {family}
    return {log: position for log, position in parse_positions(header).items() if family_of(log) not in other_families}


def parse_positions(header: str) -> Positions:
    """Parse the result of ``format_positions``. A log that is named twice has the higher position.

    Raises:
        Problem: The header has another form (400).
    """
    if not _POSITIONS.fullmatch(header):
        raise invalid([{"field": MIN_POSITION_HEADER, "reason": "should be like market-0=12,market-1=7"}])
    pairs = (pair.split("=") for pair in header.split(","))
    return highest_positions((log, int(position)) for log, position in pairs)


def highest_positions(positions: Iterable[tuple[str, int]]) -> Positions:
    """Return the highest position of each log, sorted by log."""
    highest: dict[str, int] = {}
    for log, position in positions:
        highest[log] = max(position, highest.get(log, 0))
    return dict(sorted(highest.items()))
