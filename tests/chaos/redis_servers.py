"""The Redis servers under chaos: what an experiment needs to know about one server, a cluster, or watched servers."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from redis.exceptions import RedisClusterException, RedisError

SERVER_ERRORS = (RedisError, RedisClusterException)
"""The errors that the clients of producers and of the oracle raise while servers fail."""

Fault = Callable[[random.Random], str]
"""Causes a fault, and returns its description."""

NoteLoss = Callable[[], None]
"""Called as soon as the servers cannot accept any more events that they may lose."""

Loss = Callable[[random.Random, NoteLoss], str]
"""Causes a fault by which servers lose data, and returns its description."""


def without_loss(loss: Loss, chance: random.Random) -> str:
    """Cause a fault by which these servers lose no acknowledged event."""
    return loss(chance, lambda: None)


class RedisServers(Protocol):
    """Running servers. A fault ends by itself: when it returns, every server runs again and has its replica."""

    @property
    def roles_url(self) -> str:
        """The URL of the servers for the roles."""

    @property
    def settings(self) -> Mapping[str, str]:
        """Environment variables of all roles."""

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that lose no acknowledged event, the frequent ones several times."""

    @property
    def losses(self) -> Sequence[Loss]:
        """The faults after which only archived events are safe."""

    def client(self, **options: Any) -> Any:
        """Return a client for producers and the oracle."""

    def add_to_stream(self, client: Any, stream: str, fields: Mapping[str, str]) -> None:
        """Add an entry to a stream. On return, the entry is as durable as the events of the service.

        Raises:
            redis.exceptions.RedisError: The entry may be lost.
        """

    def subscribers(self, channel: str) -> int:
        """Return the number of subscriptions to a channel."""
