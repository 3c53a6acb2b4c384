"""``tickview bench query``: the scans of TickView, of other stores and of the limit, in one run."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from shutil import which
from typing import Annotated, Any

import typer

from infra.bench.contenders.launcher import BenchmarkServers
from infra.bench.population import fill
from infra.bench.processes import benchmark_servers
from infra.bench.query import MemoryMeasurement, ScanMeasurement, limit_shares, measure
from infra.cli.output import JsonOption, print_json
from infra.settings import Settings


class ContenderName(StrEnum):
    """The name of a contender."""

    REPLICA = "replica"
    REDIS = "redis"
    POSTGRES = "postgres"
    REDISEARCH = "redisearch"
    BEFORE = "before"
    LIMIT = "limit"


PatternsOption = Annotated[list[int], typer.Option(min=100, help="Number of active patterns. Repeat for several runs.")]
ConnectionsOption = Annotated[list[int], typer.Option(min=1, help="Number of connections. Repeat for several.")]
ContendersOption = Annotated[list[ContenderName], typer.Option(help="Contender to measure. Repeat for several.")]


def query(
    patterns: PatternsOption = [10_000],  # noqa: B006 typer copies the list
    connections: ConnectionsOption = [1, 50, 250],  # noqa: B006 typer copies the list
    seconds: Annotated[float, typer.Option(min=0.1, max=20, help="Duration of each measurement, in seconds.")] = 2.0,
    symbols: Annotated[int, typer.Option(min=3, help="Number of symbols of the patterns.")] = 4_000,
    contenders: ContendersOption = list(ContenderName),  # noqa: B006 typer copies the list
    redis_stack: Annotated[
        str, typer.Option(help="Program of the server for the contender redisearch.")
    ] = "redis-stack-server",
    json: JsonOption = False,
) -> None:
    """Measure scans per second of TickView and of other stores of patterns.

    The contenders are TickView's replica, its Redis indexes, PostgreSQL, RediSearch, the method of the platform before
    TickView, and the limit: a server that sends a constant body. Each contender is one process of the same web server.
    A cell of the table contains scans per second, the median and the 99th percentile of the latency in milliseconds,
    and the share of the limit.

    Example: tickview bench query --patterns 1000 --patterns 10000 --patterns 100000
    """
    settings = Settings(log_level="error")
    stack = which(redis_stack)
    names = [contender.value for contender in contenders if stack or contender is not ContenderName.REDISEARCH]
    measured: list[ScanMeasurement] = []
    memory: list[MemoryMeasurement] = []
    for number in patterns:
        with benchmark_servers(postgres=ContenderName.POSTGRES in contenders) as (client, url, dsn):
            fill(client, settings, number, symbols)
            servers = BenchmarkServers(client, url, dsn, number, stack)
            result = measure(servers, names, symbols, connections, seconds)
            measured += result.measured
            memory += result.memory
    if json:
        print_json(
            {
                "symbols": symbols,
                "seconds": seconds,
                "scans": [
                    {**_document(scan), "share": share}
                    for scan, share in zip(measured, limit_shares(measured), strict=True)
                ],
                "memory": [contender._asdict() for contender in memory],
                "not_at_hand": [contender for contender in contenders if contender not in names],
            }
        )
    else:
        _print_markdown(_scans_table(measured))
        _print_markdown(_memory_table(memory))
        if len(names) < len(contenders):
            sys.stdout.write(
                f"redisearch: not measured, {redis_stack} is not installed (--redis-stack sets its path)\n"
            )


def _document(scan: ScanMeasurement) -> dict[str, Any]:
    fields, latencies = scan._asdict(), scan.latencies._asdict()
    del fields["latencies"]
    return {**fields, "connections_used": latencies.pop("connections"), **latencies}


def _scans_table(measured: Sequence[ScanMeasurement]) -> Iterable[Mapping[str, str]]:
    """Return a line for each contender, number of connections and kind of parameters, with all kinds of scans."""
    lines: dict[tuple[Any, ...], dict[str, str]] = {}
    for scan, share in zip(measured, limit_shares(measured), strict=True):
        key = (scan.patterns, scan.connections, scan.parameters, scan.contender)
        line = lines.setdefault(
            key,
            {
                "patterns": f"{scan.patterns:,}",
                "connections": str(scan.connections),
                "parameters": scan.parameters,
                "contender": scan.contender,
            },
        )
        line[scan.query] = _cell(scan, share)
    return lines.values()


def _cell(scan: ScanMeasurement, share: float | None) -> str:
    latencies = scan.latencies
    cell = f"{_format(latencies.per_second)} ({_format(latencies.p50_ms)} / {_format(latencies.p99_ms)})"
    if share is not None and scan.contender != "limit":
        cell += f" {share:.0%}" if share >= 0.01 else f" {share:.2%}"
    if latencies.connections < scan.connections:
        cell += f" at {latencies.connections}, of {latencies.answers} answers"
    return cell


def _format(value: float) -> str:
    """Format a number with three significant digits, or as a whole number from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _memory_table(memory: Sequence[MemoryMeasurement]) -> Iterable[Mapping[str, str]]:
    lines: dict[int, dict[str, str]] = {}
    for used in memory:
        line = lines.setdefault(used.patterns, {"resident memory of the API process, patterns": f"{used.patterns:,}"})
        line[used.contender] = f"{used.resident_bytes / 1_000_000:.0f} MB"
    return lines.values()


def _print_markdown(lines: Iterable[Mapping[str, str]]) -> None:
    """Print a table in Markdown."""
    rows = list(lines)
    table = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    sys.stdout.write("\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n\n")
