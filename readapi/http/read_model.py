"""A read model as it is served: from one build a request, whichever is live when the request begins.

Freshness is visible (``TickView-Position``) and controllable (``TickView-Min-Position``).
"""

import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Generic, TypeVar

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from domain.streams import MARKET_LOG, USERS_LOG, family_of
from projections.queries import Positions
from readapi.http.problems import Problem, invalid
from readapi.ports.read_models import Freshness, LiveBuild, LiveBuilds

POSITION_HEADER = "TickView-Position"
MIN_POSITION_HEADER = "TickView-Min-Position"

POSITIONS_PATTERN = "^[a-z][a-z0-9-]{0,31}=[0-9]{1,15}(,[a-z][a-z0-9-]{0,31}=[0-9]{1,15}){0,64}$"
_POSITIONS = re.compile(POSITIONS_PATTERN, re.ASCII)

Queries = TypeVar("Queries")


STALE_WARNING = '110 tickview "Response is Stale"'
"""As RFC 7234 has it."""


class Staleness(TypedDict):
    """Whether the store is away, and for how long it has not been heard of."""

    stale: bool
    age_seconds: int | None


FRESH = Staleness(stale=False, age_seconds=None)


class ReadModel(Generic[Queries]):
    """One read model, which folds a ``family`` of logs."""

    def __init__(
        self,
        name: str,
        builds: LiveBuilds[Queries],
        wait_seconds: float,
        freshness: Freshness | None = None,
        family: str = MARKET_LOG,
    ) -> None:
        self.name = name
        self._builds = builds
        self._wait_seconds = wait_seconds
        self._freshness = freshness
        self._family = family

    @property
    def live(self) -> LiveBuild[Queries]:
        """What answers now. A request takes it once: the next moment it may be another."""
        return self._builds.current

    async def prepare(self, req: Request, resp: Response) -> LiveBuild[Queries]:
        """What the request is to be answered from, once it knows the position that the client asks for.

        The answer says up to which position it is at least: known before the query, so that it never claims too much.
        The wait does not count as time that the answer takes. Raises Problem (400, 504).
        """
        live = await self.wait_for_position(req)
        self.set_freshness_headers(resp, live)
        return live

    async def wait_for_position(self, req: Request) -> LiveBuild[Queries]:
        """What answers once it knows the position that the client asks for. Raises Problem (400, 504)."""
        wanted = requested_positions(req, self._family)
        if wanted is None:
            return self.live
        live = await self._reach(wanted)
        req.context.started = time.perf_counter()
        return live

    def set_freshness_headers(self, resp: Response, live: LiveBuild[Queries]) -> None:
        """Say up to which position the answer is, and if it is stale."""
        resp.set_header(POSITION_HEADER, live.formatted_positions)
        if self.age() is not None:
            resp.set_header("Warning", STALE_WARNING)

    def age(self) -> int | None:
        """For how many seconds the store has not been heard of, if it is away."""
        age = self._freshness.age() if self._freshness else None
        return None if age is None else int(age)

    def staleness(self) -> Staleness:
        """What an answer says of that."""
        age = self.age()
        return FRESH if age is None else Staleness(stale=True, age_seconds=age)

    async def _reach(self, wanted: Positions) -> LiveBuild[Queries]:
        live = await self._builds.reached(wanted, self._wait_seconds)
        if live is not None:
            return live
        raise position_not_reached(self.name, self.live.positions, wanted, self._wait_seconds)


def position_not_reached(name: str, folded: Positions, wanted: Positions, wait_seconds: float) -> Problem:
    """504: the read model ``name`` is folded so far, and not to where it was waited for."""
    lacking = [
        f"{log} is at {folded[log]}, not at {position}" if log in folded else f"{log} is no log of this read model"
        for log, position in wanted.items()
        if folded.get(log, -1) < position
    ]
    return Problem(
        HTTPStatus.GATEWAY_TIMEOUT,
        "position-not-reached",
        f"the read model {name} does not know what was asked for yet; a read waits for it "
        f"{wait_seconds:g} s at most: {'; '.join(lacking) or 'it has only just reached it'}",
    )


def requested_positions(req: Request, family: str = MARKET_LOG) -> Positions | None:
    """What the client asks to be known, by those who fold this family of logs; None if it does not ask.

    A client sends back what any answer has told: to positions in logs of the other family there is nothing to wait
    for. A log of neither is never known. Raises Problem (400).
    """
    header = req.get_header(MIN_POSITION_HEADER)
    if header is None:
        return None
    others = {MARKET_LOG, USERS_LOG} - {family}
    return {log: position for log, position in parse_positions(header).items() if family_of(log) not in others}


def parse_positions(header: str) -> Positions:
    """What ``format_positions`` writes; of a log that is named twice, both must be reached. Raises Problem (400)."""
    if not _POSITIONS.fullmatch(header):
        raise invalid([{"field": MIN_POSITION_HEADER, "reason": "should be like market-0=12,market-1=7"}])
    pairs = (pair.split("=") for pair in header.split(","))
    return highest_positions((log, int(position)) for log, position in pairs)


def highest_positions(places: Iterable[tuple[str, int]]) -> Positions:
    """The highest position of each log."""
    positions: dict[str, int] = {}
    for log, position in places:
        positions[log] = max(position, positions.get(log, 0))
    return dict(sorted(positions.items()))
