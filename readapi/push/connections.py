"""The bounds of live push in one API process, and the connections that count towards them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple, TypeVar

from readapi.http.problems import Problem
from readapi.ports.errors import UnavailableError
from readapi.push.subscriptions import Subscription

Key = TypeVar("Key")

RETRY_SECONDS = 15
"""Seconds after which a client may try again to open a connection beyond a bound."""


class PushBounds(NamedTuple):
    """The bounds of live push in one API process.

    Attributes:
        unsent_bytes: Highest number of bytes that wait for all clients together.
        connections: Highest number of connections of one user. 0: no bound.
        filters: Highest number of different combinations of topics, filters and fields.
    """

    unsent_bytes: int = 67_108_864
    connections: int = 0
    filters: int = 5_000


class Connections:
    """The open connections of one API process, by user and by subscription."""

    def __init__(self, bounds: PushBounds) -> None:
        self._bounds = bounds
        self._users: Counter[str] = Counter()
        self._subscriptions: Counter[Subscription] = Counter()

    def check(self, user: str, subscription: Subscription) -> None:
        """Check that a user may open another connection.

        Raises:
            Problem: 429, the user has too many connections.
            UnavailableError: The clients have too many different filters.
        """
        most, filters = self._bounds.connections, self._bounds.filters
        if most and self._users[user] >= most:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-connections",
                f"the user has {most} live connections to this process, as many as TICKVIEW_PUSH_CONNECTIONS allows: "
                "close one of them, or subscribe to several topics over one connection",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        if subscription not in self._subscriptions and len(self._subscriptions) >= filters:
            raise UnavailableError(
                f"the live connections to this process have {filters} different filters, as many as "
                "TICKVIEW_PUSH_FILTERS allows; try again, or use the filters of another connection",
                RETRY_SECONDS,
            )

    @contextmanager
    def opened(self, user: str, subscription: Subscription) -> Iterator[None]:
        """Count a connection until the end of the context."""
        with _counted(self._users, user), _counted(self._subscriptions, subscription):
            yield


@contextmanager
def _counted(numbers: Counter[Key], key: Key) -> Iterator[None]:
    numbers[key] += 1
    try:
        yield
    finally:
        numbers[key] -= 1
        if not numbers[key]:
            del numbers[key]
