"""The benchmark commands: the rows of their results. The rates themselves are in docs/performance.md."""

import subprocess
import sys
from itertools import product
from shutil import which
from typing import Any

import orjson


def bench(*arguments: str) -> dict[str, Any]:
    """Run ``tickview bench`` and return its result."""
    command = [sys.executable, "-m", "infra.cli", "bench", *arguments, "--json"]
    completed = subprocess.run(command, capture_output=True, timeout=110, check=False)
    assert completed.returncode == 0, completed.stderr.decode()
    result: dict[str, Any] = orjson.loads(completed.stdout)
    return result


def test_bench_ingest_measures_every_step() -> None:
    result = bench("ingest", "--events", "3000", "--symbols", "100")
    rates = {(row["into"], row["what"].split(" ")[0]): row["events_per_second"] for row in result["rates"]}
    assert set(rates) == {
        ("log", "bare"),
        ("log", "append"),
        ("log", "record"),
        ("read model", "bare"),
        ("read model", "project"),
    }
    assert all(rate > 0 for rate in rates.values())


def test_bench_query_measures_every_contender() -> None:
    result = bench("query", "--patterns", "500", "--symbols", "20", "--connections", "4", "--seconds", "0.1")
    redisearch = ["redisearch"] if which("redis-stack-server") else []
    contenders = ["replica", "redis", "postgres", *redisearch, "before", "limit"]
    scans = [(row["query"], row["parameters"], row["contender"]) for row in result["scans"]]
    assert scans == list(product("ABCD", ("varied", "repeated"), contenders))
    for row in result["scans"]:
        assert (row["patterns"], row["connections"]) == (500, 4)
        assert row["per_second"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert (row["share"] == 1) if row["contender"] == "limit" else (row["share"] > 0)
    assert [row["contender"] for row in result["memory"]] == contenders
    assert result["not_at_hand"] == ([] if redisearch else ["redisearch"])
    assert all(row["resident_bytes"] > 10_000_000 for row in result["memory"])


def test_bench_replay_measures_the_replay_and_scans_during_the_replay() -> None:
    arguments = ("--events", "3000", "--symbols", "100", "--runner-events", "200", "--seconds", "0.5")
    result = bench("replay", *arguments)
    names = [row["what"].split(",")[0].split(" (")[0] for row in result["rates"]]
    assert names == ["bare commands of the commits", "replay", "ProjectionRunner", "ProjectionRunner"]
    assert all(row["events_per_second"] > 0 for row in result["rates"])
    limit, replay, *_ = result["rates"]
    assert 0 < limit["process_cpu_us"] < replay["process_cpu_us"]
    assert 0 < limit["server_cpu_us"] < replay["server_cpu_us"]
    assert [row["scans"] for row in result["scans"]] == [
        "no replay",
        "during a replay",
        "during a replay of 1,000 events/s",
    ]
    assert all(row["per_second"] > 0 for row in result["scans"])


def test_bench_archive_measures_archiving_verification_export_and_scans() -> None:
    arguments = ("--events", "3000", "--symbols", "100", "--intervals", "3000", "--seconds", "0.2")
    result = bench("archive", *arguments)
    assert [(row["of"], row["what"].split(" ")[0]) for row in result["rates"]] == [
        ("archive", "bare"),
        ("archive", "archive"),
        ("verify", "bare"),
        ("verify", "bare"),
        ("verify", "reading"),
        ("verify", "verify"),
        ("export", "bare"),
        *[("export", "export")] * 3,
        ("history", "archive"),
        *[("history", "fold")] * 5,
    ]
    assert all(row["events_per_second"] > 0 for row in result["rates"])
    assert [row["scan_as_of"][0] for row in result["scans"]] == ["A", "B", "C", "D"]
    assert all(row["per_second"] > 0 for row in result["scans"])
