"""The benchmark of growing costs: the quantities of each table. The figures are in docs/scaling.md."""

from typing import Any

import pytest

from tests.benchmarks.test_bench import bench


@pytest.mark.parametrize(
    ("over", "sizes", "quantities"),
    [
        (
            "patterns",
            (200, 400),
            {"fold: worker", "scan A over HTTP: API process", "replica: memory", "archive: archiver"},
        ),
        (
            "partitions",
            (2,),
            {"record: Redis", "API start: until the replica answers", "idle worker: resident memory"},
        ),
        ("filters", (1, 20), {"push, filters C: 3 symbols"}),
    ],
)
def test_bench_scale_measures_every_quantity_at_every_size(
    over: str, sizes: tuple[int, ...], quantities: set[str]
) -> None:
    options = [word for size in sizes for word in (f"--{over}", str(size))]
    result: dict[str, Any] = bench("scale", "--over", over, *options, "--rounds", "1")
    assert set(result) == {"rounds", over}
    assert quantities <= {row["name"] for row in result[over]}
    for row in result[over]:
        assert list(row["costs"]) == [str(size) for size in sizes], row["name"]
        assert all(cost >= 0 for cost in row["costs"].values()), row["name"]
        assert row["bound"] in (0, 1)
