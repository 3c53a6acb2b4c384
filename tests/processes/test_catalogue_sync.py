"""``tickview catalogue sync`` with real processes: files, the platform's PostgreSQL, refusals, and ``--watch``."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from redis import Redis

from domain.streams import market_logs
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from projections.ports import Segment
from tests.processes.roles import running_role, tickview, wait_until

LOGS = market_logs(4)

SYMBOLS = """symbol,name,market,sector,market_cap,active
AAPL,Apple,stocks,Technology,3e12,true
MSFT,Microsoft,stocks,Technology,,true
XOM,Exxon Mobil,stocks,Energy,5e11,true
GONE,Gone Inc.,stocks,Energy,,false
"""
UNIVERSES = [{"key": "tech", "name": "Technology", "symbols": ["AAPL", "MSFT"]}]


@pytest.fixture
def worker(redis_url: str) -> Iterator[None]:
    with running_role("project", redis_url=redis_url, lease_seconds=1):
        yield


def sync(redis_url: str, *arguments: str, **settings: Any) -> CompletedProcess[bytes]:
    return tickview("catalogue", "sync", *arguments, redis_url=redis_url, **{"wait_seconds": 30, **settings})


def sync_json(redis_url: str, *arguments: str, exit_code: int = 0, **settings: Any) -> dict[str, Any]:
    """Run ``tickview catalogue sync`` and return its JSON output."""
    completed = sync(redis_url, "--json", *arguments, **settings)
    assert completed.returncode == exit_code, (completed.stdout, completed.stderr)
    result: dict[str, Any] = orjson.loads(completed.stdout)
    return result


def recorded_events(redis: Redis) -> list[str]:
    """Return type and stream of each event in the market logs. All of them come from the catalogue."""
    entries = [entry for log in LOGS for entry in EventLog(redis, log).read(0, 1_000)]
    assert {entry.origin for entry in entries} <= {"catalogue"}
    return sorted(f"{entry.topic.rpartition(':')[2]} {entry.stream}" for entry in entries)


@pytest.mark.usefixtures("worker")
def test_sync_records_only_the_changes(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols, universes = tmp_path / "symbols.csv", tmp_path / "universes.json"
    files = ("--symbols", str(symbols), "--universes", str(universes))
    symbols.write_text(SYMBOLS)
    universes.write_bytes(orjson.dumps(UNIVERSES))

    dry_run = sync_json(redis_url, *files, "--dry-run")
    counts = {"listed": 3, "inactive": 1, "changed": 0, "delisted": 0, "unchanged": 0, "refused": 0}
    assert (dry_run["symbols"], dry_run["position"], recorded_events(redis)) == (counts, None, [])
    first = sync_json(redis_url, *files)
    assert (first["symbols"], first["universes"]["defined"]) == (counts, 1)
    assert sum(int(position.partition("=")[2]) for position in first["position"].split(",")) == 6
    listed = [f"SymbolListed symbol-{symbol}" for symbol in ("AAPL", "MSFT", "XOM")]
    inactive = ["SymbolDelisted symbol-GONE", "SymbolListed symbol-GONE"]
    assert recorded_events(redis) == sorted([*listed, *inactive, "UniverseDefined universe-tech"])
    second = sync_json(redis_url, *files)
    assert (second["symbols"]["unchanged"], second["universes"]["unchanged"], len(recorded_events(redis))) == (4, 1, 6)

    symbols.write_text(
        SYMBOLS.replace("Exxon Mobil", "ExxonMobil").replace("MSFT,Microsoft,stocks,Technology,,true\n", "")
    )
    universes.write_bytes(orjson.dumps([{**UNIVERSES[0], "symbols": ["AAPL"]}]))
    third = sync_json(redis_url, *files)
    assert third["symbols"] == {"listed": 0, "inactive": 0, "changed": 1, "delisted": 1, "unchanged": 2, "refused": 0}
    assert len(recorded_events(redis)) == 9
    assert {"SymbolChanged symbol-XOM", "SymbolDelisted symbol-MSFT", "UniverseChanged universe-tech"} <= set(
        recorded_events(redis)
    )


@pytest.mark.usefixtures("worker")
def test_two_concurrent_syncs_record_each_change_once(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    symbols.write_text("symbol\n" + "".join(f"S{number}\n" for number in range(500)))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: sync_json(redis_url, "--symbols", str(symbols)), range(2)))
    assert len(recorded_events(redis)) == 500


@pytest.mark.usefixtures("worker")
def test_sync_refuses_invalid_rows_and_empty_sources(redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    symbols.write_text(SYMBOLS + "a b,bad,,,,\nIBM,IBM,,,much,\n")
    refused = sync_json(redis_url, "--symbols", str(symbols), exit_code=3)
    assert [row["where"] for row in refused["refused"]] == ["symbols.csv line 6", "symbols.csv line 7"]
    assert (refused["symbols"]["listed"], refused["universes"]) == (3, None)
    text = sync(redis_url, "--symbols", str(symbols))
    assert text.returncode == 3
    assert b"symbols.csv line 7: market_cap is 'much', which is not a number" in text.stdout

    symbols.write_text("ticker\nAAPL\n")
    no_symbol_column = sync(redis_url, "--symbols", str(symbols), "--force")
    assert (no_symbol_column.returncode, b"has no column symbol" in no_symbol_column.stderr) == (1, True)
    symbols.write_text("symbol\n")
    empty = sync(redis_url, "--symbols", str(symbols))
    assert empty.returncode == 1
    assert b"3 of the 3 listed symbols would be delisted" in empty.stderr
    assert sync_json(redis_url, "--symbols", str(symbols), "--force")["symbols"]["delisted"] == 3


@pytest.mark.usefixtures("worker")
def test_sync_reads_the_tables_of_the_platform_and_never_writes_to_them(redis_url: str, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SCHEMA platform")
        connection.execute(
            "CREATE TABLE platform.tickers (ticker text, company text, active boolean, market_cap numeric)"
        )
        connection.execute(
            "INSERT INTO platform.tickers VALUES ('AAPL', 'Apple', true, 3e12), ('OLD', 'Old', false, 1)"
        )
    settings = {
        "catalogue_dsn": database_url,
        "catalogue_symbols_table": "platform.tickers",
        "catalogue_symbol_columns": '{"symbol": "ticker", "name": "company"}',
    }
    result = sync_json(redis_url, **settings)
    assert (result["symbols"]["listed"], result["symbols"]["inactive"], result["universes"]) == (1, 1, None)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE universes (key text, name text, symbols text[])")
        connection.execute("INSERT INTO universes VALUES ('all', 'All', ARRAY['AAPL', 'OLD'])")
        connection.execute(
            "CREATE FUNCTION delete_universes() RETURNS text LANGUAGE sql AS $$ DELETE FROM universes; SELECT 'A' $$"
        )
        connection.execute("CREATE VIEW writing_view AS SELECT delete_universes() AS ticker, '' AS company")
    assert sync_json(redis_url, **settings)["universes"]["defined"] == 1
    refused = sync(redis_url, **{**settings, "catalogue_symbols_table": "writing_view"})
    assert refused.returncode == 1
    assert b"cannot execute DELETE in a read-only transaction" in refused.stderr
    for name, value, reason in (
        (
            "catalogue_symbols_table",
            "nowhere",
            b"nowhere. Its user can read platform.tickers, universes, writing_view. Correct TICKVIEW_CATALOGUE_S",
        ),
        (
            "catalogue_universes_table",
            "Universes",
            b"universes, platform.tickers, writing_view. Correct TICKVIEW_CATALOGUE_UN",
        ),
        ("catalogue_symbols_table", "a..b", b"TICKVIEW_CATALOGUE_SYMBOLS_TABLE: 'a..b' is not the name of a table"),
        ("catalogue_dsn", "postgresql://127.0.0.1:1/none", b"Check TICKVIEW_CATALOGUE_DSN"),
        ("catalogue_symbol_columns", '{"symbol": "ticker", "name": "firm"}', b"no column firm for name"),
        ("catalogue_symbol_columns", '{"colour": "red"}', b"TICKVIEW_CATALOGUE_SYMBOL_COLUMNS"),
    ):
        refused = sync(redis_url, **{**settings, name: value})
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
        assert reason in refused.stderr


@pytest.mark.usefixtures("worker")
def test_sync_reads_a_database_without_encoding_as_utf_8(redis_url: str, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = f"unencoded_{connection.info.dbname}"
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    dsn = make_conninfo(database_url, dbname=name)
    with psycopg.connect(dsn, client_encoding="UTF8") as connection:
        connection.execute("CREATE TABLE symbols (symbol text, name text)")
        connection.execute("INSERT INTO symbols VALUES ('OR', 'L’Oréal')")
    assert sync_json(redis_url, catalogue_dsn=dsn)["symbols"]["listed"] == 1
    with psycopg.connect(dsn) as connection:
        connection.execute(r"INSERT INTO symbols VALUES ('CIT', E'Citro\xebn')")
    refused = sync(redis_url, catalogue_dsn=dsn)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert b'invalid byte sequence for encoding "UTF8": 0xeb' in refused.stderr


@pytest.mark.parametrize(("options", "reason"), [(["--every", "5"], b"--every"), (["--watch", "--json"], b"--json")])
def test_sync_refuses_contradictory_options(redis_url: str, options: list[str], reason: bytes) -> None:
    completed = sync(redis_url, *options)
    assert completed.returncode == 2
    assert reason in completed.stderr


def test_sync_without_a_worker_records_no_event_twice(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    symbols.write_text(SYMBOLS)
    assert sync_json(redis_url, "--symbols", str(symbols))["symbols"]["listed"] == 3
    assert len(recorded_events(redis)) == 5
    refused = sync(redis_url, "--symbols", str(symbols), wait_seconds=0.1)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert b"Check that workers run" in refused.stderr
    assert len(recorded_events(redis)) == 5


def test_sync_without_a_source_names_the_setting(redis_url: str) -> None:
    completed = sync(redis_url)
    assert (completed.returncode, len(completed.stderr.splitlines())) == (1, 1)
    assert b"TICKVIEW_CATALOGUE_DSN" in completed.stderr


@pytest.mark.usefixtures("worker")
def test_watch_continues_after_a_failed_round(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    with running_role("catalogue", "sync", "--symbols", str(symbols), "--watch", "--every", "1", redis_url=redis_url):
        symbols.write_text(SYMBOLS)
        wait_until(lambda: len(recorded_events(redis)) == 5, "the file is read, which is missing in the first round")
        symbols.write_text(SYMBOLS + "IBM,IBM,,,,\n")
        wait_until(lambda: "SymbolListed symbol-IBM" in recorded_events(redis), "a later round records the new symbol")
    live = read_versions(redis, ["symbols"])["symbols"].live
    assert live is not None
    rows = [SegmentKeys(Segment("symbols", live, log)).rows for log in LOGS]
    wait_until(lambda: sum(redis.hlen(name) for name in rows) == 5, "every event is folded")
