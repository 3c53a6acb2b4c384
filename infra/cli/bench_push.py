"""``tickview bench push``: the latency from the message of a producer to thousands of sockets."""

import time
from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated, Any
from urllib.request import urlopen

import orjson
import typer

from infra.bench import push as push_bench
from infra.bench.errors import BenchmarkError
from infra.bench.processes import answers, benchmark_servers, start_module
from infra.bench.push_stages import Stage, measure_stages
from infra.cli.output import JsonOption, print_json, print_table
from infra.embedded.tcp_ports import find_free_port
from infra.settings import Settings


class Transport(StrEnum):
    """The transport of the clients."""

    WEBSOCKET = "websocket"
    SSE = "sse"


def push(
    connections: Annotated[int, typer.Option(min=1, help="Number of clients of one API process.")] = 2_000,
    seconds: Annotated[float, typer.Option(min=0.5, help="Duration of the measurement, in seconds.")] = 10.0,
    rate: Annotated[int, typer.Option(min=1, max=1_000, help="Changes per second, each for every client.")] = 100,
    patterns: Annotated[int, typer.Option(min=0, help="Number of active patterns at the start.")] = 10_000,
    transport: Annotated[Transport, typer.Option(help="Transport of the clients.")] = Transport.WEBSOCKET,
    json: JsonOption = False,
) -> None:
    """Measure the milliseconds from the XADD of a producer to the sockets of all clients, by stage, and the limit.

    Example: tickview bench push --connections 2000 --rate 100
    """
    push_bench.check_open_files(connections)
    settings = Settings(api_processes=1, log_level="error")
    with benchmark_servers() as (client, url, _), ExitStack() as roles:
        push_bench.record_patterns(client, settings, patterns, 4_000)
        port = find_free_port("127.0.0.1")
        role_settings = {"redis_url": url, "log_level": "error", "api_processes": 1}
        for role in (("record",), ("project",), ("serve", "--port", str(port))):
            roles.enter_context(start_module(("infra.cli", *role), role_settings))
        _wait_for_patterns(port, patterns)
        pushed = push_bench.measure(client, port, connections, transport.value, rate, seconds)
        stages = measure_stages(client, settings, pushed.published, pushed.arrivals)
        roles.close()
        limit = push_bench.measure_limit(
            find_free_port("127.0.0.1"), connections, transport.value, round(pushed.message_bytes), seconds
        )
    row: dict[str, Any] = {
        "changes_per_second": round(pushed.changes_per_second),
        "messages_per_second": round(pushed.messages_per_second),
        "message_bytes": round(pushed.message_bytes),
        "p50_ms": round(pushed.p50_ms, 1),
        "p99_ms": round(pushed.p99_ms, 1),
        "max_ms": round(pushed.max_ms, 1),
        "missing": pushed.missing,
        "dropped": pushed.dropped,
        "closed": pushed.closed,
        "limit_messages_per_second": round(limit),
        "share": f"{pushed.messages_per_second / limit:.0%}",
    }
    stage_rows = [stage._asdict() for stage in stages]
    if json:
        options = {"connections": connections, "patterns": patterns, "transport": transport.value}
        print_json({**options, **row, "stages": stage_rows})
    else:
        print_table(list(row), [row], "")
        print_table(list(Stage._fields), stage_rows, "")


def _wait_for_patterns(port: int, patterns: int) -> None:
    """Wait until the API knows all patterns."""
    deadline = time.monotonic() + 120
    while not (answers(port) and _total(port) >= patterns):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"The API does not know all {patterns:,} patterns after 120 seconds.")
        time.sleep(0.1)


def _total(port: int) -> int:
    url = f"http://127.0.0.1:{port}/api/patterns/scan?confidence_min=0&per_page=1"
    with urlopen(url, timeout=10) as answer:
        total: int = orjson.loads(answer.read())["pagination"]["total"]
        return total
