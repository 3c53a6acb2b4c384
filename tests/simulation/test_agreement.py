"""The simulation against a measured run of the same events, at a small scale. ``make simulation`` prints both."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from infra.redis.connections import connect
from infra.redis.functions import load
from tests import servers
from tests.simulation import measured
from tests.simulation.lags import Lags, lags_by_log
from tests.simulation.model import simulate
from tests.simulation.scenario import Costs, Failover, Scenario, Stall

pytestmark = [
    pytest.mark.skipif("SIMULATION" not in os.environ, reason="make simulation runs these tests"),
    pytest.mark.timeout(600),
]

BAND = 4.0
"""Highest ratio of a measured and a simulated lag of milliseconds. The machine may have other work."""

DELAY_BAND = 2.0
"""Highest ratio of a measured and a simulated longest lag, where leases and outages delay events for seconds."""

BUSY_SECONDS = 0.3
"""Median lag that is simulated from the measured costs, above which the machine is too busy for a comparison: the
processes then wait for each other's processors, which the simulation does not know."""

RATE, SECONDS, LEASE_SECONDS = 200.0, 12.0, 2.0

SCENARIOS: dict[str, dict[str, Any]] = {
    "steady": {},
    "a worker stalls for 6 s": {"stalls": (Stall(0, 3.0, 6.0),)},
    "no primary server for 1.5 s": {"failovers": (Failover(4.0, 1.5),)},
}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with servers.valkey() as server:
        yield server.connection_url


@pytest.fixture(scope="module")
def costs(redis_url: str) -> Costs:
    with connect(redis_url) as client:
        load(client)
        return measured.measure_costs(client, redis_url, waits=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_simulated_and_measured_lags_agree(name: str, costs: Costs, redis_url: str) -> None:
    scenario = Scenario(costs, RATE, SECONDS, lease_seconds=LEASE_SECONDS)._replace(**SCENARIOS[name])
    if max(lags.p50 for lags in lags_by_log(simulate(scenario)).values()) > BUSY_SECONDS:
        pytest.skip("the machine is too busy: the costs of batches are a multiple of those of a quiet machine")
    run = measured.run(scenario, redis_url)
    real, simulated = lags_by_log(run.visible), lags_by_log(simulate(scenario, run.owners))
    print_lags(name, run.owners, real, simulated)
    assert {log: lags.events for log, lags in real.items()} == {log: lags.events for log, lags in simulated.items()}
    for log in real:
        assert_agree(real[log], simulated[log])


def assert_agree(real: Lags, simulated: Lags) -> None:
    """Compare the medians, and the longest lags where events were delayed for seconds."""
    assert 1 / BAND < real.p50 / simulated.p50 < BAND
    if simulated.longest > 1:
        assert 1 / DELAY_BAND < real.longest / simulated.longest < DELAY_BAND


def print_lags(name: str, owners: Mapping[str, int], real: Mapping[str, Lags], simulated: Mapping[str, Lags]) -> None:
    table = Table(title=f"{name}, {RATE:.0f} events/s: lag in ms, simulated and measured", box=None)
    for column in ("partition", "worker", "events", "p50", "p90", "p99", "longest"):
        table.add_column(column, justify="right")
    for log in real:
        pairs = zip(simulated[log][1:], real[log][1:], strict=True)
        cells = [f"{1_000 * before:,.1f}  {1_000 * after:,.1f}" for before, after in pairs]
        table.add_row(log, str(owners[log]), str(real[log].events), *cells)
    Console(width=120).print(table)
