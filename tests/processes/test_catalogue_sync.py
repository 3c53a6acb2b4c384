"""``tickview catalogue sync`` as people run it: files, the platform's PostgreSQL, what is refused, and --watch."""

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


def sync(url: str, *arguments: str, **settings: Any) -> CompletedProcess[bytes]:
    return tickview("catalogue", "sync", *arguments, redis_url=url, **{"wait_seconds": 30, **settings})


def synced(url: str, *arguments: str, code: int = 0, **settings: Any) -> dict[str, Any]:
    done = sync(url, "--json", *arguments, **settings)
    assert done.returncode == code, (done.stdout, done.stderr)
    outcome: dict[str, Any] = orjson.loads(done.stdout)
    return outcome


def recorded(redis: Redis) -> list[str]:
    """The topics of all events of the catalogue, by their own names."""
    entries = [entry for log in LOGS for entry in EventLog(redis, log).read(0, 1_000)]
    assert {entry.origin for entry in entries} <= {"catalogue"}
    return sorted(f"{entry.topic.rpartition(':')[2]} {entry.stream}" for entry in entries)


@pytest.mark.usefixtures("worker")
def test_only_what_changed_is_recorded(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols, universes = tmp_path / "symbols.csv", tmp_path / "universes.json"
    files = ("--symbols", str(symbols), "--universes", str(universes))
    symbols.write_text(SYMBOLS)
    universes.write_bytes(orjson.dumps(UNIVERSES))

    tried = synced(redis_url, *files, "--dry-run")
    counts = {"listed": 3, "changed": 0, "delisted": 0, "unchanged": 1, "refused": 0}
    assert (tried["symbols"], tried["position"], recorded(redis)) == (counts, None, [])
    first = synced(redis_url, *files)
    assert (first["symbols"], first["universes"]["defined"]) == (counts, 1)
    assert sum(int(one.partition("=")[2]) for one in first["position"].split(",")) == 4
    listed = [f"SymbolListed symbol-{symbol}" for symbol in ("AAPL", "MSFT", "XOM")]
    assert recorded(redis) == [*listed, "UniverseDefined universe-tech"]
    again = synced(redis_url, *files)
    assert (again["symbols"]["unchanged"], again["universes"]["unchanged"], len(recorded(redis))) == (4, 1, 4)

    symbols.write_text(
        SYMBOLS.replace("Exxon Mobil", "ExxonMobil").replace("MSFT,Microsoft,stocks,Technology,,true\n", "")
    )
    universes.write_bytes(orjson.dumps([{**UNIVERSES[0], "symbols": ["AAPL"]}]))
    changed = synced(redis_url, *files)
    assert changed["symbols"] == {"listed": 0, "changed": 1, "delisted": 1, "unchanged": 2, "refused": 0}
    assert len(recorded(redis)) == 7
    assert {"SymbolChanged symbol-XOM", "SymbolDelisted symbol-MSFT", "UniverseChanged universe-tech"} <= set(
        recorded(redis)
    )


@pytest.mark.usefixtures("worker")
def test_two_at_once_record_a_change_once(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    symbols.write_text("symbol\n" + "".join(f"S{number}\n" for number in range(500)))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: synced(redis_url, "--symbols", str(symbols)), range(2)))
    assert len(recorded(redis)) == 500


@pytest.mark.usefixtures("worker")
def test_bad_rows_are_refused_and_an_empty_source_empties_nothing(redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    symbols.write_text(SYMBOLS + "a b,bad,,,,\nIBM,IBM,,,much,\n")
    refused = synced(redis_url, "--symbols", str(symbols), code=3)
    assert [one["where"] for one in refused["refused"]] == ["symbols.csv line 6", "symbols.csv line 7"]
    assert (refused["symbols"]["listed"], refused["universes"]) == (3, None)
    shown = sync(redis_url, "--symbols", str(symbols))
    assert shown.returncode == 3
    assert b"symbols.csv line 7: market_cap is 'much', which is not a number" in shown.stdout

    symbols.write_text("ticker\nAAPL\n")
    nameless = sync(redis_url, "--symbols", str(symbols), "--force")
    assert (nameless.returncode, b"has no column symbol" in nameless.stderr) == (1, True)
    symbols.write_text("symbol\n")
    stopped = sync(redis_url, "--symbols", str(symbols))
    assert stopped.returncode == 1
    assert b"3 of the 3 listed symbols would be delisted" in stopped.stderr
    assert synced(redis_url, "--symbols", str(symbols), "--force")["symbols"]["delisted"] == 3


@pytest.mark.usefixtures("worker")
def test_the_platforms_tables_are_read_and_never_written(redis_url: str, database_url: str) -> None:
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
    found = synced(redis_url, **settings)
    assert (found["symbols"]["listed"], found["symbols"]["unchanged"], found["universes"]) == (1, 1, None)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE universes (key text, name text, symbols text[])")
        connection.execute("INSERT INTO universes VALUES ('all', 'All', ARRAY['AAPL', 'OLD'])")
        connection.execute(
            "CREATE FUNCTION intrude() RETURNS text LANGUAGE sql AS $$ DELETE FROM universes; SELECT 'A' $$"
        )
        connection.execute("CREATE VIEW intruding AS SELECT intrude() AS ticker, '' AS company")
    assert synced(redis_url, **settings)["universes"]["defined"] == 1
    intruding = sync(redis_url, **{**settings, "catalogue_symbols_table": "intruding"})
    assert intruding.returncode == 1
    assert b"cannot execute DELETE in a read-only transaction" in intruding.stderr
    for name, value, says in (
        (
            "catalogue_symbols_table",
            "nowhere",
            b"nowhere. Its user can read platform.tickers, intruding, universes. Correct TICKVIEW_CATALOGUE_S",
        ),
        (
            "catalogue_universes_table",
            "Universes",
            b"universes, platform.tickers, intruding. Correct TICKVIEW_CATALOGUE_UN",
        ),
        ("catalogue_symbols_table", "a..b", b"TICKVIEW_CATALOGUE_SYMBOLS_TABLE: 'a..b' is not the name of a table"),
        ("catalogue_dsn", "postgresql://127.0.0.1:1/none", b"Check TICKVIEW_CATALOGUE_DSN"),
        ("catalogue_symbol_columns", '{"symbol": "ticker", "name": "firm"}', b"no column firm for name"),
        ("catalogue_symbol_columns", '{"colour": "red"}', b"TICKVIEW_CATALOGUE_SYMBOL_COLUMNS"),
    ):
        wrong = sync(redis_url, **{**settings, name: value})
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1), wrong.stderr
        assert says in wrong.stderr


@pytest.mark.usefixtures("worker")
def test_a_database_that_names_no_encoding_is_read_as_utf_8(redis_url: str, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = f"unencoded_{connection.info.dbname}"
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    dsn = make_conninfo(database_url, dbname=name)
    with psycopg.connect(dsn, client_encoding="UTF8") as connection:
        connection.execute("CREATE TABLE symbols (symbol text, name text)")
        connection.execute("INSERT INTO symbols VALUES ('OR', 'L’Oréal')")
    assert synced(redis_url, catalogue_dsn=dsn)["symbols"]["listed"] == 1
    with psycopg.connect(dsn) as connection:
        connection.execute(r"INSERT INTO symbols VALUES ('CIT', E'Citro\xebn')")
    refused = sync(redis_url, catalogue_dsn=dsn)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert b'invalid byte sequence for encoding "UTF8": 0xeb' in refused.stderr


@pytest.mark.parametrize(("options", "says"), [(["--every", "5"], b"--every"), (["--watch", "--json"], b"--json")])
def test_options_that_contradict_each_other_are_refused(redis_url: str, options: list[str], says: bytes) -> None:
    done = sync(redis_url, *options)
    assert done.returncode == 2
    assert says in done.stderr


def test_without_a_worker_nothing_is_recorded_twice(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    symbols.write_text(SYMBOLS)
    assert synced(redis_url, "--symbols", str(symbols))["symbols"]["listed"] == 3
    refused = sync(redis_url, "--symbols", str(symbols), wait_seconds=0.1)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert b"Check that workers run" in refused.stderr
    assert len(recorded(redis)) == 3


def test_without_a_source_it_says_what_to_do(redis_url: str) -> None:
    done = sync(redis_url)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert b"TICKVIEW_CATALOGUE_DSN" in done.stderr


@pytest.mark.usefixtures("worker")
def test_watching_goes_on_when_a_round_fails(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.csv"
    with running_role("catalogue", "sync", "--symbols", str(symbols), "--watch", "--every", "1", redis_url=redis_url):
        symbols.write_text(SYMBOLS)
        wait_until(lambda: len(recorded(redis)) == 3, "the file that was not there at first is read")
        symbols.write_text(SYMBOLS + "IBM,IBM,,,,\n")
        wait_until(lambda: "SymbolListed symbol-IBM" in recorded(redis), "a later round takes over what is new")
    live = read_versions(redis, ["symbols"])["symbols"].live
    assert live is not None
    rows = [SegmentKeys(Segment("symbols", live, log)).rows for log in LOGS]
    wait_until(lambda: sum(redis.hlen(name) for name in rows) == 4, "all are folded")
