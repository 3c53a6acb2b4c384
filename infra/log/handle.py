"""The handle of one log: everything that an operation on the log's keys needs."""

from dataclasses import dataclass

from domain.streams import OPERATIONS_LOG
from infra.log.durability import DurableFunctions
from infra.log.keys import LogKeys
from infra.redis.connections import RedisClient
from infra.settings import Durability, Settings


@dataclass(frozen=True)
class LogOptions:
    """The durability and the deduplication of a log."""

    durability: Durability = "fsynced"
    """When an append is acknowledged."""
    replicas: int = 1
    """Replicas that the durability ``replicated`` waits for, at least 1."""
    dedupe_window: int = 86_400
    """Seconds for which the log remembers an event id, at least 1. It may remember an id for up to twice as long."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "LogOptions":
        """Return the options that the settings name."""
        return cls(settings.durability, settings.replicas, settings.dedupe_window)


DEFAULT_LOG_OPTIONS = LogOptions()
"""The options of a log without settings."""


class LogHandle:
    """The connection, the name, the keys and the options of one log.

    Args:
        client: A client that does not decode responses. It connects on first use.
        name: The name of the log. It becomes the hash tag of the log's keys.
        options: The durability and the deduplication of the log.

    Raises:
        ValueError: The name is empty or contains braces.
    """

    def __init__(self, client: RedisClient, name: str, options: LogOptions = DEFAULT_LOG_OPTIONS) -> None:
        self.client = client
        self.name = name
        self.keys = LogKeys(name)
        self.functions = DurableFunctions(client, options.durability, options.replicas)
        self.dedupe_window = options.dedupe_window
        self.records_when_full = name == OPERATIONS_LOG
        """Whether the log accepts events while Redis is full. The commands that free memory are recorded first."""
