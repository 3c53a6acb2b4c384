"""``tickview bench``: measure the speed of TickView, and of the limit in the same run."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.bench import archive as archive_bench
from infra.bench import as_of as as_of_bench
from infra.bench import history as history_bench
from infra.bench import ingest as ingest_bench
from infra.bench import replay as replay_bench
from infra.bench.measurement import Throughput
from infra.bench.processes import benchmark_servers, isolate_environment, serve_api
from infra.bench.projection_runner import with_postgres, with_sqlite
from infra.cli.bench_push import push
from infra.cli.bench_query import query
from infra.cli.bench_scale import scale
from infra.cli.output import JsonOption, print_json, print_table
from infra.embedded.tcp_ports import find_free_port
from infra.settings import Settings

FOLDED_SHARE = 10
"""The history folds three events of one pattern for so many archived events."""

app = typer.Typer(help="Measure the speed of TickView, and of the limit in the same run.", no_args_is_help=True)
app.command()(query)
app.command()(push)
app.command()(scale)


@app.callback()
def bench() -> None:
    """Measure the speed of TickView, and of the limit in the same run."""
    isolate_environment()


@app.command()
def ingest(
    events: Annotated[int, typer.Option(min=1_000, help="Number of pattern detections to record.")] = 100_000,
    symbols: Annotated[int, typer.Option(min=1, help="Number of symbols of the detections.")] = 4_000,
    json: JsonOption = False,
) -> None:
    """Measure events per second into the log and into a read model, with one process and one partition.

    Example: tickview bench ingest --events 100000
    """
    with benchmark_servers() as (client, _, _):
        measured = ingest_bench.measure(client, events, symbols)
    rows: list[dict[str, Any]] = [
        {"into": target, "what": rate.name, "events_per_second": round(rate.per_second), "share": _percent(rate.share)}
        | _processor_times(rate)
        for target, rates in measured.items()
        for rate in rates
    ]
    if json:
        print_json({"events": events, "symbols": symbols, "rates": rows})
    else:
        print_table(list(rows[0]), rows, "")


@app.command()
def replay(
    events: Annotated[int, typer.Option(min=1_000, help="Number of pattern detections in the log.")] = 1_000_000,
    symbols: Annotated[int, typer.Option(min=1, help="Number of symbols of the detections.")] = 4_000,
    runner_events: Annotated[int, typer.Option(min=100, help="Events for the ProjectionRunner.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of each measurement of scans, in seconds.")] = 10.0,
    json: JsonOption = False,
) -> None:
    """Measure events per second of a replay with one worker and one partition, and scans during the replay.

    Example: tickview bench replay --events 100000
    """
    runner_events = min(runner_events, events)
    with (
        benchmark_servers(postgres=True) as (client, url, dsn),
        tempfile.TemporaryDirectory(prefix="tickview-") as folder,
    ):
        log = replay_bench.fill(client, replay_bench.single_partition_settings(url), events, symbols)
        replay_bench.create_live_build(client, log, 10_000)
        port = find_free_port("127.0.0.1")
        with serve_api(url, port, partitions=1):
            scans = replay_bench.scan_latencies(url, port, symbols, 4, seconds)
        rates = replay_bench.measure_replay(client, log, Settings().fold_batch)
        rates += [
            Throughput(
                "ProjectionRunner, view in SQLite", with_sqlite(url, runner_events, str(Path(folder) / "view.db"))
            ),
            Throughput("ProjectionRunner, view in PostgreSQL", with_postgres(url, runner_events, dsn)),
        ]
    limit = rates[0].per_second
    rows: list[dict[str, Any]] = [
        {"what": rate.name, "events_per_second": round(rate.per_second), "share": f"{rate.per_second / limit:.1%}"}
        | _processor_times(rate)
        for rate in rates
    ]
    scan_rows: list[dict[str, Any]] = [
        {
            "scans": name,
            "per_second": round(scan.per_second),
            "p50_ms": round(scan.p50_ms, 2),
            "p99_ms": round(scan.p99_ms, 2),
        }
        for name, scan in scans.items()
    ]
    if json:
        print_json({"events": events, "runner_events": runner_events, "rates": rows, "scans": scan_rows})
    else:
        print_table(list(rows[0]), rows, "")
        print_table(list(scan_rows[0]), scan_rows, "")


@app.command()
def archive(
    events: Annotated[int, typer.Option(min=1_000, help="Number of pattern detections to archive.")] = 200_000,
    symbols: Annotated[int, typer.Option(min=1, help="Number of symbols of the detections.")] = 4_000,
    intervals: Annotated[int, typer.Option(min=1_000, help="Number of states of patterns in the history.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of each measurement of scans, in seconds.")] = 5.0,
    json: JsonOption = False,
) -> None:
    """Measure events per second of archiving, verification, export and the history of patterns, and scans as of a time.

    Example: tickview bench archive --events 100000 --intervals 100000
    """
    with (
        benchmark_servers(postgres=True) as (client, url, dsn),
        tempfile.TemporaryDirectory(prefix="tickview-") as folder,
    ):
        log = replay_bench.fill(client, replay_bench.single_partition_settings(url), events, symbols)
        measured = archive_bench.measure(dsn, log, Settings().archive_batch, Path(folder))
        with archive_bench.create_database(dsn, "folded") as folded:
            patterns = max(events // FOLDED_SHARE, 100)
            measured["history"] = history_bench.measure(folded, client, patterns, symbols, Settings().archive_batch)
        with archive_bench.create_database(dsn, "history") as history:
            scans = as_of_bench.measure(history, intervals, symbols, seconds)
    rows: list[dict[str, Any]] = [
        {"of": name, "what": rate.name, "events_per_second": round(rate.per_second), "share": _percent(rate.share)}
        for name, rates in measured.items()
        for rate in rates
    ]
    scan_rows: list[dict[str, Any]] = [
        {
            "scan_as_of": scan.name,
            "per_second": round(scan.per_second),
            "p50_ms": round(scan.p50_ms, 2),
            "p99_ms": round(scan.p99_ms, 2),
        }
        for scan in scans
    ]
    if json:
        print_json({"events": events, "intervals": intervals, "rates": rows, "scans": scan_rows})
    else:
        print_table(list(rows[0]), rows, "")
        print_table(list(scan_rows[0]), scan_rows, "")


def _processor_times(rate: Throughput) -> dict[str, float | None]:
    """Return the columns of the microseconds of processor time per event."""
    return {"process_cpu_us": rate.process_cpu, "server_cpu_us": rate.server_cpu}


def _percent(share: float | None) -> str:
    """Format the share of the limit; None is the limit itself."""
    return "the limit" if share is None else f"{share:.0%}"
