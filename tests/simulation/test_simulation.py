"""The simulation against what is known without it: conservation, order, queueing theory, and the lease times."""

from itertools import pairwise
from statistics import mean

import pytest

from domain.streams import market_logs
from tests.simulation.lags import lags_by_log
from tests.simulation.model import Simulation, simulate
from tests.simulation.scenario import (
    Cost,
    Costs,
    Failover,
    Scenario,
    Stall,
    arrivals,
    log_shares,
    zipf_shares,
)

FREE = Cost(0.0, 0.0)

COSTS = Costs(
    record=Cost(0.0005, 0.00005), append=Cost(0.001, 0.00003), fold=Cost(0.001, 0.00006), commit=Cost(0.002, 0.00005)
)
"""Costs of the order of the measured ones."""

STEADY = Scenario(COSTS, rate=500, seconds=20)

EVENTFUL = STEADY._replace(
    workers=3, stalls=(Stall(0, 4, 9), Stall(1, 12, 1)), failovers=(Failover(6, 2), Failover(15, 7)), lease_seconds=2
)
"""Stalls with and without a loss of leases, and failovers, one of them longer than a lease."""


@pytest.mark.parametrize("scenario", [STEADY, EVENTFUL], ids=["steady", "eventful"])
def test_every_event_becomes_visible_once_and_in_the_order_of_its_partition(scenario: Scenario) -> None:
    simulation = Simulation(scenario)
    visible = simulation.run()
    sent = list(arrivals(scenario))
    assert len(sent) > 9_000
    assert bool(simulation.refused) == bool(scenario.stalls)
    for log in market_logs(scenario.partitions):
        assert [event.arrival for event in visible if event.arrival.log == log] == [
            event for event in sent if event.log == log
        ]
    assert all(before.at <= after.at for before, after in pairwise(visible))
    shortest = COSTS.record.of(1) + COSTS.append.of(1) + COSTS.fold.of(1) + COSTS.commit.of(1)
    assert min(event.lag for event in visible) >= shortest - 1e-9


@pytest.mark.parametrize("utilization", [0.3, 0.6])
def test_the_mean_wait_at_one_worker_is_that_of_an_m_d_1_queue(utilization: float) -> None:
    """Pollaczek and Khinchine: the mean wait is ρs / 2(1 - ρ) for the service time s and the utilization ρ."""
    service = 0.01
    scenario = Scenario(
        Costs(FREE, FREE, Cost(service, 0.0), FREE),
        rate=utilization / service,
        seconds=20_000 * service / utilization,
        partitions=1,
        workers=1,
        record_batch=1,
        fold_batch=1,
    )
    wait = mean(event.lag for event in simulate(scenario)) - service
    assert wait == pytest.approx(utilization * service / (2 * (1 - utilization)), rel=0.08)


def test_two_partitions_share_the_processor_of_a_worker_and_not_that_of_two() -> None:
    """At a utilization of 80 % each, two workers keep up, and one worker is overloaded by a factor of 1.6."""
    scenario = Scenario(
        Costs(FREE, FREE, Cost(0.01, 0.0), FREE),
        rate=160,
        seconds=50,
        partitions=2,
        symbols=5_000,
        skew=0.0,
        fold_batch=1,
    )
    longest = {workers: max(event.lag for event in simulate(scenario._replace(workers=workers))) for workers in (1, 2)}
    assert longest[1] == pytest.approx(50 * 0.6, rel=0.1)
    assert longest[2] < 2


def test_a_higher_rate_has_longer_lags() -> None:
    highest = [
        max(lags.p99 for lags in lags_by_log(simulate(STEADY._replace(rate=rate, seconds=3))).values())
        for rate in (100, 1_000, 4_000, 8_000)
    ]
    assert highest == sorted(highest)


def test_batches_carry_a_load_that_single_events_would_not() -> None:
    lags = {
        size: max(event.lag for event in simulate(STEADY._replace(rate=2_000, seconds=5, fold_batch=size)))
        for size in (1, 1_000)
    }
    assert lags[1_000] < 1 < lags[1]


def test_a_stall_shorter_than_the_lease_delays_the_worker_s_own_partitions_until_its_end() -> None:
    owners = {"market-0": 0, "market-1": 0, "market-2": 1, "market-3": 1}
    scenario = STEADY._replace(stalls=(Stall(0, 5.0, 2.5),))
    lags = lags_by_log(simulate(scenario, owners))
    assert [2.3 < lags[log].longest < 2.6 for log in owners] == [True, True, False, False]
    assert lags["market-2"].longest < 0.1


def test_another_worker_takes_over_within_a_lease_and_a_round_of_a_dead_worker() -> None:
    owners = {"market-0": 0, "market-1": 0, "market-2": 1, "market-3": 1}
    scenario = STEADY._replace(stalls=(Stall(0, 5.0, 1e6),), lease_seconds=3.0)
    lags = lags_by_log(simulate(scenario, owners))
    for log in ("market-0", "market-1"):
        assert 2.0 - 0.1 < lags[log].longest < 3.0 + 1.0 + 0.2
    assert lags["market-3"].longest < 0.2


def test_a_failover_delays_all_partitions_for_its_duration() -> None:
    lags = lags_by_log(simulate(STEADY._replace(failovers=(Failover(8.0, 3.0),))))
    assert all(2.9 < each.longest < 3.3 for each in lags.values())


def test_a_skewed_load_has_a_hot_partition_that_more_partitions_do_not_cool() -> None:
    hottest = {number: max(log_shares(STEADY._replace(partitions=number)).values()) for number in (1, 4, 16, 64)}
    first = zipf_shares(STEADY.symbols, STEADY.skew)[0]
    assert hottest[1] == pytest.approx(1)
    assert hottest[1] > hottest[4] > hottest[16] > first > 1 / 16
    assert hottest[64] >= first
    visible = simulate(STEADY)
    for log, share in log_shares(STEADY).items():
        assert sum(event.arrival.log == log for event in visible) / len(visible) == pytest.approx(share, abs=0.02)
