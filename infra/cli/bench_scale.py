"""``tickview bench scale``: how costs grow with the patterns, the partitions and the push filters."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from infra.bench.growth import filters as filters_growth
from infra.bench.growth import partitions as partitions_growth
from infra.bench.growth import patterns as patterns_growth
from infra.bench.growth.measurements import Growth
from infra.cli.output import JsonOption, print_json, print_table


class Dimension(StrEnum):
    """What grows."""

    PATTERNS = "patterns"
    PARTITIONS = "partitions"
    FILTERS = "filters"


PATTERNS = [1_000, 10_000, 100_000, 1_000_000]
PARTITIONS = [1, 4, 16, 64]
FILTERS = [1, 10, 100, 1_000, 10_000]

OverOption = Annotated[list[Dimension], typer.Option(help="What grows. Repeat for several.")]
PatternsOption = Annotated[list[int], typer.Option(min=100, help="Number of active patterns. Repeat for several.")]
PartitionsOption = Annotated[list[int], typer.Option(min=1, max=64, help="Number of partitions. Repeat for several.")]
FiltersOption = Annotated[list[int], typer.Option(min=1, help="Number of push filters. Repeat for several.")]


def scale(
    over: OverOption = list(Dimension),  # noqa: B006 typer copies the list
    patterns: PatternsOption = PATTERNS,
    partitions: PartitionsOption = PARTITIONS,
    filters: FiltersOption = FILTERS,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds in which the sizes alternate.")] = 7,
    json: JsonOption = False,
) -> None:
    """Measure how the cost of each part grows with the patterns, the partitions and the push filters.

    Each table has a line for each quantity, its median cost at each size, and the measured exponent: 0 if the cost does
    not depend on the size, 1 if it is proportional to the size. Costs are processor time, so that other work on the
    machine adds little to them. A million patterns take about 10 GB of memory and a quarter of an hour.

    Example: tickview bench scale --over patterns --patterns 1000 --patterns 10000 --patterns 100000
    """
    measures: dict[Dimension, Callable[[], list[Growth]]] = {
        Dimension.PATTERNS: lambda: patterns_growth.measure(_ascending(patterns), rounds),
        Dimension.PARTITIONS: lambda: partitions_growth.measure(_ascending(partitions), rounds),
        Dimension.FILTERS: lambda: filters_growth.measure(_ascending(filters), rounds),
    }
    tables = {dimension.value: measures[dimension]() for dimension in Dimension if dimension in over}
    if json:
        print_json({"rounds": rounds, **{name: _documents(table) for name, table in tables.items()}})
        return
    for name, table in tables.items():
        lines = [_line(name, growth) for growth in table]
        print_table(list(lines[0]), lines, "")


def _ascending(sizes: Sequence[int]) -> list[int]:
    return sorted(set(sizes))


def _documents(growths: Sequence[Growth]) -> list[dict[str, Any]]:
    return [
        {
            **growth.quantity._asdict(),
            "costs": {str(size): cost for size, cost in growth.costs.items()},
            "exponent": growth.exponent,
        }
        for growth in growths
    ]


def _line(dimension: str, growth: Growth) -> dict[str, str]:
    """Return the line of a quantity in the table of a dimension."""
    exponent = growth.exponent
    return {
        f"cost_by_{dimension}": growth.quantity.name,
        "unit": growth.quantity.unit,
        **{f"{size:,}": _significant(cost) for size, cost in growth.costs.items()},
        "exponent": "" if exponent is None else f"{exponent:.2f}",
        "at_most": f"{growth.quantity.bound:.0f}",
    }


def _significant(cost: float) -> str:
    """Format a cost with three significant digits."""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"
