"""The universes of the platform's database in the forms in which the platform stores them."""

from pathlib import Path

import psycopg
import pytest

from infra.catalogue.parsing import SourceRows, SymbolEntry, UniverseEntry
from infra.catalogue.synchronization import read_source
from infra.settings import Settings

SCHEMA = (Path(__file__).parents[1] / "platform" / "schema.sql").read_text()


@pytest.fixture
def platform_url(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute(SCHEMA)
    return database_url


def read(url: str) -> tuple[SourceRows[SymbolEntry], SourceRows[UniverseEntry]]:
    source = read_source(Settings(catalogue_dsn=url), None, None)
    assert source.symbols
    assert source.universes
    return source.symbols, source.universes


def test_every_stored_universe_is_read_and_nothing_else(platform_url: str) -> None:
    _, universes = read(platform_url)
    assert universes.refused == []
    assert {key: (entry.name, entry.category, entry.symbols) for key, entry in universes.entries.items()} == {
        "etf_core": ("Core ETFs", "etf_universe", ["SPY", "QQQ", "IWM"]),
        "top_50": ("market_leaders", "stock_universe", ["AAPL", "MSFT"]),
        "sp_500": ("SP 500", "stock_universe", ["AAPL", "NVDA", "TSLA"]),
        "AI": ("AI", "themes", ["NVDA", "MSFT"]),
        "SPY": ("SPDR S&P 500 ETF Trust", "etf", ["AAPL", "MSFT"]),
        "crypto_miners": ("Bitcoin & Cryptocurrency Miners", "theme", ["MARA"]),
        "information_technology": ("Information Technology Sector", "sector", ["AAPL", "NVDA"]),
    }


def test_symbols_have_their_further_columns_and_are_active_unless_the_platform_says_no(platform_url: str) -> None:
    symbols, _ = read(platform_url)
    assert symbols.refused == []
    assert {symbol: entry.active for symbol, entry in symbols.entries.items() if symbol in ("SQ", "TWTR", "AAPL")} == {
        "AAPL": True,
        "SQ": True,
        "TWTR": False,
    }
    apple = symbols.entries["AAPL"].details
    assert {name: apple[name] for name in ("locale", "currency_name", "cik", "composite_figi")} == {
        "locale": "us",
        "currency_name": "usd",
        "cik": "0000320193",
        "composite_figi": "BBG000B9XRY4",
    }
    assert apple["weighted_shares_outstanding"] == 15_728_700_000


@pytest.mark.parametrize(
    "value", ['{"tickers": ["SPY", {"symbol": "QQQ"}]}', '{"stocks": {"symbols": "SPY QQQ"}, "etfs": ["SPY", "QQQ"]}']
)
def test_a_universe_may_have_any_known_shape_and_a_key_with_blanks(platform_url: str, value: str) -> None:
    insert = "INSERT INTO cache_entries (type, name, key, value, environment) VALUES (%s, %s, %s, %s, %s)"
    with psycopg.connect(platform_url) as connection:
        connection.execute(insert, ["etf_universe", "My ETFs", "My Core ETFs", value, "TEST"])
        connection.execute(insert, ["etf_universe", "Core ETFs", "etf_core", '["TEST"]', "TEST"])
        connection.execute(insert, ["stock_universe", "A group has this key", "SPY", '["TEST"]', "DEFAULT"])
        connection.execute(insert, ["stock_universe", "odd", "odd", '{"count": 3}', "DEFAULT"])
    _, universes = read(platform_url)
    assert universes.entries["My Core ETFs"].symbols == ["SPY", "QQQ"]
    assert universes.entries["etf_core"].symbols == ["SPY", "QQQ", "IWM"], "the default environment counts"
    assert universes.entries["SPY"].symbols == ["AAPL", "MSFT"], "a group counts before a cache entry"
    [refused] = universes.refused
    assert (refused.subject, "which is not a list of symbols" in refused.reason) == ("odd", True)
