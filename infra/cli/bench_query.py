"""``tickview bench query``: TickView's scans beside others' and beside the limit, in one run."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from shutil import which
from typing import Annotated, Any

import typer

from infra.bench.contenders.launcher import Servers
from infra.bench.processes import own_server
from infra.bench.query import Measured, Memory, fill, measure, shares
from infra.cli.output import JsonOption, print_json
from infra.settings import Settings


class Contender(StrEnum):
    """Whom to ask."""

    REPLICA = "replica"
    REDIS = "redis"
    POSTGRES = "postgres"
    REDISEARCH = "redisearch"
    BEFORE = "before"
    LIMIT = "limit"


def query(
    patterns: Annotated[list[int], typer.Option(min=100, help="Active patterns; may be repeated.")] = [10_000],  # noqa: B006 typer copies it
    connections: Annotated[list[int], typer.Option(min=1, help="That ask at once; may be repeated.")] = [1, 50, 250],  # noqa: B006
    seconds: Annotated[float, typer.Option(min=0.1, max=20, help="Per measurement.")] = 2.0,
    symbols: Annotated[int, typer.Option(min=3, help="Symbols that the patterns are spread over.")] = 4_000,
    contenders: Annotated[list[Contender], typer.Option(help="Who is asked; may be repeated.")] = list(Contender),  # noqa: B006
    redis_stack: Annotated[
        str, typer.Option(help="The server for redisearch, if there is one.")
    ] = "redis-stack-server",
    json: JsonOption = False,
) -> None:
    """Scans a second: TickView's replica, its Redis indexes, PostgreSQL, RediSearch, the platform before, the limit.

    Each is one process of the same server; the limit is that server sending a constant body. A cell of the table is
    scans a second, (p50 / p99 in milliseconds), and the share of the limit.

    Example: tickview bench query --patterns 1000 --patterns 10000 --patterns 100000
    """
    settings = Settings(log_level="error")
    stack = which(redis_stack)
    asked = [one.value for one in contenders if stack or one is not Contender.REDISEARCH]
    measured: list[Measured] = []
    memory: list[Memory] = []
    for number in patterns:
        with own_server(postgres=Contender.POSTGRES in contenders) as (client, url, dsn):
            fill(client, settings, number, symbols)
            servers = Servers(client, url, dsn, number, stack)
            result = measure(servers, asked, symbols, connections, seconds)
            measured += result.measured
            memory += result.memory
    if json:
        print_json(
            {
                "symbols": symbols,
                "seconds": seconds,
                "scans": [
                    {**_flat(one), "share": share} for one, share in zip(measured, shares(measured), strict=True)
                ],
                "memory": [one._asdict() for one in memory],
                "not_at_hand": [one for one in contenders if one not in asked],
            }
        )
    else:
        _print_markdown(_scans_table(measured))
        _print_markdown(_memory_table(memory))
        if len(asked) < len(contenders):
            sys.stdout.write(f"redisearch: not at hand (no {redis_stack}; --redis-stack says where one is)\n")


def _flat(one: Measured) -> dict[str, Any]:
    asked, told = one._asdict(), one.latencies._asdict()
    del asked["latencies"]
    return {**asked, "connections_used": told.pop("connections"), **told}


def _scans_table(measured: Sequence[Measured]) -> Iterable[Mapping[str, str]]:
    """One line for each way in which a contender was asked, the kinds of scans side by side."""
    lines: dict[tuple[Any, ...], dict[str, str]] = {}
    for one, share in zip(measured, shares(measured), strict=True):
        key = (one.patterns, one.connections, one.parameters, one.contender)
        line = lines.setdefault(
            key,
            {
                "patterns": f"{one.patterns:,}",
                "connections": str(one.connections),
                "parameters": one.parameters,
                "contender": one.contender,
            },
        )
        line[one.query] = _cell(one, share)
    return lines.values()


def _cell(one: Measured, share: float | None) -> str:
    latencies = one.latencies
    cell = f"{_short(latencies.per_second)} ({_short(latencies.p50_ms)} / {_short(latencies.p99_ms)})"
    if share is not None and one.contender != "limit":
        cell += f" {share:.0%}" if share >= 0.01 else f" {share:.2%}"
    if latencies.connections < one.connections:
        cell += f" at {latencies.connections}, of {latencies.answers} answers"
    return cell


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _memory_table(memory: Sequence[Memory]) -> Iterable[Mapping[str, str]]:
    lines: dict[int, dict[str, str]] = {}
    for one in memory:
        line = lines.setdefault(one.patterns, {"resident memory of the API process, patterns": f"{one.patterns:,}"})
        line[one.contender] = f"{one.resident_bytes / 1_000_000:.0f} MB"
    return lines.values()


def _print_markdown(lines: Iterable[Mapping[str, str]]) -> None:
    """A table as documentation has it."""
    rows = list(lines)
    table = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    sys.stdout.write("\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n\n")
