"""``make simulation``: measures the costs of batches on this machine, and prints the lags of scenarios."""

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from infra.redis.connections import connect
from infra.redis.functions import load
from tests import servers
from tests.simulation.lags import Lags, lags_by_log
from tests.simulation.measured import measure_costs
from tests.simulation.model import simulate
from tests.simulation.scenario import Cost, Costs, Failover, Scenario, Stall

ALL_PARTITIONS = 4
"""Highest number of partitions that a table shows one by one."""

DISK_SECONDS = 0.001
"""Seconds that a server waits for its disk after each append and each commit."""

CONSOLE = Console(width=120)


def scenarios(costs: Costs) -> dict[str, Scenario]:
    """Return the scenarios of the report by their descriptions."""
    peak = Scenario(costs, rate=1_000, seconds=30)
    ten = peak._replace(rate=10_000, seconds=10, partitions=16, workers=4, recorders=4, primaries=3)
    hundred = ten._replace(rate=100_000, seconds=3, partitions=64, workers=32, recorders=32, primaries=32)
    return {
        "peak of today, all symbols equally frequent": peak._replace(skew=0.0),
        "peak of today": peak,
        "peak of today, a worker stalls for 4 s": peak._replace(stalls=(Stall(0, 10, 4),)),
        "peak of today, a worker stalls for 12 s": peak._replace(stalls=(Stall(0, 10, 12),)),
        "peak of today, a worker dies": peak._replace(stalls=(Stall(0, 10, 1e9),)),
        "peak of today, a failover of 5 s": peak._replace(failovers=(Failover(10, 5),)),
        "10 times": ten,
        "10 times, one primary": ten._replace(primaries=1),
        "10 times, one recorder": ten._replace(recorders=1),
        "100 times": hundred,
        "100 times, all symbols equally frequent": hundred._replace(skew=0.0),
    }


def report(costs: Costs) -> None:
    """Print the costs, and the lags of every scenario."""
    CONSOLE.print(_costs_table(costs))
    for description, scenario in scenarios(costs).items():
        title = (
            f"{description}: {scenario.rate:,.0f} events/s, {scenario.partitions} partitions, "
            f"{scenario.workers} workers, {scenario.recorders} recorders, {scenario.primaries} primaries"
        )
        CONSOLE.print(_lags_table(title, lags_by_log(simulate(scenario))))


def _costs_table(costs: Costs) -> Table:
    table = _table("cost", "ms per batch", "µs per event")
    for name, cost in costs._asdict().items():
        table.add_row(name, f"{1e3 * cost.batch:.2f}", f"{1e6 * cost.event:.1f}")
    return table


def _lags_table(title: str, lags: Mapping[str, Lags]) -> Table:
    table = _table("partition", "events", "p50 ms", "p90 ms", "p99 ms", "longest ms")
    table.title = title
    for name, each in _selected(lags):
        table.add_row(name, f"{each.events:,}", *(f"{1e3 * value:,.1f}" for value in each[1:]))
    return table


def _selected(lags: Mapping[str, Lags]) -> Sequence[tuple[str, Lags]]:
    """Return the lags of all partitions, or of the partitions with most, median and fewest events."""
    if len(lags) <= ALL_PARTITIONS:
        return list(lags.items())
    ordered = sorted(lags.items(), key=lambda item: item[1].events, reverse=True)
    chosen = zip(("most events", "median", "fewest"), (0, len(ordered) // 2, -1), strict=True)
    return [(f"{ordered[rank][0]} ({name})", ordered[rank][1]) for name, rank in chosen]


def _table(*columns: str) -> Table:
    table = Table(box=None, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def main() -> None:
    """Measure the costs on a server of its own, and print the report."""
    with servers.valkey() as server, connect(server.connection_url) as client:
        load(client)
        sys.stderr.write("measuring the costs …\n")
        costs = measure_costs(client, server.connection_url, waits=False)
    report(costs._replace(append=_on_disk(costs.append), commit=_on_disk(costs.commit)))


def _on_disk(cost: Cost) -> Cost:
    return cost._replace(batch=cost.batch + DISK_SECONDS)


if __name__ == "__main__":
    main()
