"""The benchmark of live push over both transports."""

import resource
import subprocess
import sys
from itertools import pairwise

import pytest

from infra.bench.push import check_open_files
from infra.processes.errors import StartupError
from tests.benchmarks.test_bench import bench


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_bench_push_measures_messages_and_latencies(transport: str) -> None:
    options = ("--connections", "20", "--seconds", "1", "--rate", "50", "--patterns", "100")
    result = bench("push", *options, "--transport", transport)
    assert result["transport"] == transport
    assert result["changes_per_second"] == 50
    assert 0 < result["messages_per_second"] <= 20 * 50
    assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
    assert (result["missing"], result["dropped"], result["closed"]) == (0, 0, 0)
    assert result["limit_messages_per_second"] > 0
    stages = result["stages"]
    assert len(stages) == 4
    for before, after in pairwise(stages):
        assert before["total_p50_ms"] <= after["total_p50_ms"]
    assert stages[-1]["total_p99_ms"] <= result["max_ms"]
    assert stages[0]["total_p50_ms"] == stages[0]["p50_ms"]


def test_more_connections_than_the_limit_of_open_files_are_refused_in_one_line() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    check_open_files(soft - 1_000)
    with pytest.raises(StartupError, match=f"the limit is {soft}. Raise it with `ulimit -n"):
        check_open_files(soft)
    command = [sys.executable, "-m", "infra.cli", "bench", "push", "--connections", str(soft)]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 1
    assert len(completed.stderr.strip().splitlines()) == 1
