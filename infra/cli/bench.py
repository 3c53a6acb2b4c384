"""``tickview bench``: how fast TickView is, beside the limit in the same run."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.request import urlopen

import typer
from redis import Redis

from infra.bench import archive as archive_bench
from infra.bench import as_of as as_of_bench
from infra.bench import ingest as ingest_bench
from infra.bench import query as query_bench
from infra.bench import replay as replay_bench
from infra.bench.measuring import PROGRESS, Rate
from infra.bench.projection_runner import with_postgres, with_sqlite
from infra.cli.output import JsonOption, print_json, print_table
from infra.composition import log_names
from infra.connections import connect
from infra.embedded import embedded_servers
from infra.embedded.ports import reserve
from infra.errors import StartupError
from infra.functions import load
from infra.settings import Settings

app = typer.Typer(help="How fast TickView is, beside the limit in the same run.", no_args_is_help=True)


@app.command()
def ingest(
    events: Annotated[int, typer.Option(min=1_000, help="Pattern detections to record.")] = 100_000,
    symbols: Annotated[int, typer.Option(min=1, help="Symbols they are spread over.")] = 4_000,
    json: JsonOption = False,
) -> None:
    """Events per second into the log and into the read model, one process and one partition.

    Example: tickview bench ingest --events 100000
    """
    with _own_server() as (client, _, _):
        measured = ingest_bench.measure(client, events, symbols)
    rows: list[dict[str, Any]] = [
        {"into": place, "what": one.name, "events_per_second": round(one.per_second), "share": _percent(one.share)}
        for place, rates in measured.items()
        for one in rates
    ]
    if json:
        print_json({"events": events, "symbols": symbols, "rates": rows})
    else:
        print_table(("into", "what", "events_per_second", "share"), rows, "")


@app.command()
def query(
    patterns: Annotated[int, typer.Option(min=100, help="Active patterns.")] = 10_000,
    symbols: Annotated[int, typer.Option(min=1, help="Symbols they are spread over.")] = 4_000,
    connections: Annotated[int, typer.Option(min=1, help="HTTP connections that ask at once.")] = 50,
    seconds: Annotated[float, typer.Option(min=0.1, help="Per measurement.")] = 5.0,
    json: JsonOption = False,
) -> None:
    """Scans a second over HTTP with their latency, and the bare commands that answer them on one connection.

    Example: tickview bench query --patterns 10000
    """
    with _own_server() as (client, url, _):
        settings = Settings(redis_url=url, log_level="error")
        query_bench.fill(client, settings, patterns, symbols)
        port = reserve("127.0.0.1")
        with _serving(url, port, settings.partitions):
            logs = log_names(client)
            measured = asyncio.run(query_bench.measure(url, port, logs, symbols, connections, seconds))
    rows: list[dict[str, Any]] = [
        {
            "scan": f"{one.case.name}: {one.case.what}",
            "http_per_second": round(one.http.per_second),
            "http_p50_ms": round(one.http.p50_ms, 2),
            "http_p99_ms": round(one.http.p99_ms, 2),
            "bare_per_second": round(one.bare.per_second),
            "bare_p50_ms": round(one.bare.p50_ms, 2),
            "bare_p99_ms": round(one.bare.p99_ms, 2),
            "share": f"{one.http.per_second / one.bare.per_second:.0%}",
        }
        for one in measured
    ]
    if json:
        print_json({"patterns": patterns, "symbols": symbols, "connections": connections, "scans": rows})
    else:
        print_table(list(rows[0]), rows, "")


@app.command()
def replay(
    events: Annotated[int, typer.Option(min=1_000, help="Pattern detections in the log.")] = 1_000_000,
    symbols: Annotated[int, typer.Option(min=1, help="Symbols they are spread over.")] = 4_000,
    runner_events: Annotated[int, typer.Option(min=100, help="Events for eventsourcing's ProjectionRunner.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Per measurement of scans.")] = 10.0,
    json: JsonOption = False,
) -> None:
    """Events per second from position 0 into a read model, one worker and one partition, and scans meanwhile.

    Example: tickview bench replay --events 100000
    """
    runner_events = min(runner_events, events)
    with _own_server(postgres=True) as (client, url, dsn), tempfile.TemporaryDirectory(prefix="tickview-") as folder:
        log = replay_bench.fill(client, replay_bench.one_partition(url), events, symbols)
        replay_bench.make_live(client, log, 10_000)
        port = reserve("127.0.0.1")
        with _serving(url, port, partitions=1):
            scans = replay_bench.scan_latencies(url, port, symbols, 4, seconds)
        rates = replay_bench.beside_the_limit(client, log, Settings().fold_batch)
        rates += [
            Rate("ProjectionRunner, view in SQLite", with_sqlite(url, runner_events, str(Path(folder) / "view.db"))),
            Rate("ProjectionRunner, view in PostgreSQL", with_postgres(url, runner_events, dsn)),
        ]
    limit = rates[0].per_second
    rows: list[dict[str, Any]] = [
        {"what": one.name, "events_per_second": round(one.per_second), "share": f"{one.per_second / limit:.1%}"}
        for one in rates
    ]
    scan_rows: list[dict[str, Any]] = [
        {
            "scans": name,
            "per_second": round(one.per_second),
            "p50_ms": round(one.p50_ms, 2),
            "p99_ms": round(one.p99_ms, 2),
        }
        for name, one in scans.items()
    ]
    if json:
        print_json({"events": events, "runner_events": runner_events, "rates": rows, "scans": scan_rows})
    else:
        print_table(list(rows[0]), rows, "")
        print_table(list(scan_rows[0]), scan_rows, "")


@app.command()
def archive(
    events: Annotated[int, typer.Option(min=1_000, help="Pattern detections to archive.")] = 200_000,
    symbols: Annotated[int, typer.Option(min=1, help="Symbols they are spread over.")] = 4_000,
    intervals: Annotated[int, typer.Option(min=1_000, help="States of patterns in the history.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Per measurement of scans as of a moment.")] = 5.0,
    json: JsonOption = False,
) -> None:
    """Events per second archived, verified and exported, each beside its limit; scans as of a moment.

    Example: tickview bench archive --events 100000 --intervals 100000
    """
    with _own_server(postgres=True) as (client, url, dsn), tempfile.TemporaryDirectory(prefix="tickview-") as folder:
        log = replay_bench.fill(client, replay_bench.one_partition(url), events, symbols)
        measured = archive_bench.measure(dsn, log, Settings().archive_batch, Path(folder))
        with archive_bench.own_database(dsn, "history") as history:
            scans = as_of_bench.measure(history, intervals, symbols, seconds)
    rows: list[dict[str, Any]] = [
        {"of": name, "what": one.name, "events_per_second": round(one.per_second), "share": _percent(one.share)}
        for name, rates in measured.items()
        for one in rates
    ]
    scan_rows: list[dict[str, Any]] = [
        {
            "scan_as_of": one.name,
            "per_second": round(one.per_second),
            "p50_ms": round(one.p50_ms, 2),
            "p99_ms": round(one.p99_ms, 2),
        }
        for one in scans
    ]
    if json:
        print_json({"events": events, "intervals": intervals, "rates": rows, "scans": scan_rows})
    else:
        print_table(list(rows[0]), rows, "")
        print_table(list(scan_rows[0]), scan_rows, "")


@contextmanager
def _serving(url: str, port: int, partitions: int) -> Iterator[None]:
    """The API as a process, answering."""
    environment = {**os.environ, "TICKVIEW_REDIS_URL": url, "TICKVIEW_LOG_LEVEL": "error"}
    environment["TICKVIEW_PARTITIONS"] = str(partitions)
    command = [sys.executable, "-m", "infra.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=environment)  # noqa: S603 our own program
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise StartupError("the API did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def _own_server(postgres: bool = False) -> Iterator[tuple[Redis, str, str]]:
    """An embedded Valkey for the benchmark alone, and a PostgreSQL if asked for: a client, URL and DSN."""
    with tempfile.TemporaryDirectory(prefix="tickview-bench-") as folder:
        PROGRESS.print("starting a server for the benchmark …", style="dim")
        with embedded_servers(Path(folder), postgres=postgres) as servers, connect(servers.redis_url) as client:
            load(client)
            yield client, servers.redis_url, servers.postgres_dsn or ""


def _percent(share: float | None) -> str:
    return "the limit" if share is None else f"{share:.0%}"
