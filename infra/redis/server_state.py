"""The state of a Redis server as its ``INFO`` tells: reasons why the server may lose data or refuses writes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from redis import Redis

SAFE_POLICY = "noeviction"
"""The only ``maxmemory-policy`` under which a full server deletes no events, identities or rows."""


NODE_OF_CLUSTER = "is a node of a cluster: let TICKVIEW_REDIS_URL begin with redis+cluster:// and name several nodes"
"""The fault of a server that a client uses without knowing the cluster. It refuses the keys of other nodes."""


class ServerFaults(NamedTuple):
    """The faults of a server. Each text is a clause whose subject is the server."""

    failures: list[str]
    """Faults by which data are lost."""
    warnings: list[str]
    """Faults by which the server refuses writes."""


def eviction_fault(info: Mapping[str, Any]) -> str | None:
    """Return why a server with this ``INFO`` may delete data when its memory is full. None: it does not."""
    policy = info["maxmemory_policy"]
    if policy == SAFE_POLICY:
        return None
    return f"deletes data when its memory is full (maxmemory-policy {policy}): set 'maxmemory-policy {SAFE_POLICY}'"


def cluster_fault(server: Redis) -> str | None:
    """Return why a node of a cluster does not execute every command, or None."""
    state: dict[str, str] = server.execute_command("CLUSTER INFO")
    if state["cluster_state"] == "ok":
        return None
    return f"is in a cluster that is down: {state['cluster_slots_ok']} of 16384 slots have a server that answers"


def server_faults(info: Mapping[str, Any]) -> ServerFaults:
    """Return the faults that the ``INFO`` of a server shows. See https://redis.io/docs/latest/commands/info/."""
    failures, warnings = [], []
    if fault := eviction_fault(info):
        failures.append(fault)
    if evicted := info["evicted_keys"]:
        failures.append(
            f"has deleted {evicted} keys because its memory was full, so that events and read models may be "
            "incomplete: verify the archive, replay the read models, then use CONFIG RESETSTAT"
        )
    if info["role"] != "master":
        warnings.append("is a replica and refuses writes: connect to the primary server")
    used, maximum = info["used_memory"], info["maxmemory"]
    if maximum and used >= maximum:
        warnings.append(f"is full and refuses writes ({used} of {maximum} bytes): raise maxmemory")
    return ServerFaults(failures, warnings)
