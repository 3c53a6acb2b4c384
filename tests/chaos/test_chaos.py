"""Chaos: all parts fail while producers send, and afterwards the oracle finds nothing lost, doubled or wrong.

``CHAOS_MINUTES`` and ``CHAOS_SEED`` choose the duration and the faults. ``make chaos`` also plants bugs, which the
oracle must find.
"""

import os
import random

import pytest

from tests.chaos.cluster import cluster_servers
from tests.chaos.experiment import run_experiment
from tests.chaos.single_server import single_server
from tests.chaos.system import StartServers
from tests.chaos.watched_servers import sentinel_servers

MINUTES = float(os.environ.get("CHAOS_MINUTES", "1"))
"""Minutes of faults. The service then gets time to settle."""

SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))

SERVERS: dict[str, StartServers] = {
    "server": single_server,
    "cluster": cluster_servers,
    "sentinel": sentinel_servers,
}
"""Name of a kind of Redis servers -> how to run them."""


def chosen_servers() -> list[str]:
    """Return the kinds of servers of this run: all of them under ``make chaos``, the first one in the suite."""
    if name := os.environ.get("CHAOS_SERVERS"):
        return [name]
    return [*SERVERS] if "CHAOS_MINUTES" in os.environ else [*SERVERS][:1]


PLANTED_SECONDS = 45.0
"""Seconds within which a planted bug is found. Each has effects in almost every run of this duration."""

SETTLE_TIMEOUT = 300.0
"""Seconds for the start, the settling and the checks."""


@pytest.mark.timeout(60 * MINUTES + SETTLE_TIMEOUT)
@pytest.mark.parametrize("servers", chosen_servers())
def test_chaos_loses_doubles_and_corrupts_nothing(servers: str) -> None:
    run_experiment(60 * MINUTES, SEED, SERVERS[servers])


@pytest.mark.skipif("CHAOS_PLANTED" not in os.environ, reason="make chaos runs it")
@pytest.mark.timeout(PLANTED_SECONDS + SETTLE_TIMEOUT)
@pytest.mark.parametrize(
    ("bug", "fault", "found"),
    [
        ("commit without fence", "suspend_worker", "assert .* == "),
        ("checkpoint before the write", None, "assert .* == |did not reach the requested position"),
        ("append without dedupe", None, "events are doubled"),
        ("silent gap", None, "without a gap"),
    ],
)
def test_the_oracle_finds_planted_bugs(bug: str, fault: str | None, found: str) -> None:
    with pytest.raises(AssertionError, match=found):
        run_experiment(PLANTED_SECONDS, SEED, bug=bug, fault=fault)
