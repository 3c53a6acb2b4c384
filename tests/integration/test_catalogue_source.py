"""The source of the catalogue in a real PostgreSQL: names of tables and columns, and errors that list candidates."""

from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from infra.catalogue.errors import CatalogueError
from infra.catalogue.platform_source import MAX_LISTED_TABLES
from infra.catalogue.synchronization import read_source
from infra.settings import Settings

COLUMNS = ("Ticker", "Company Name", 'a "sector"', "50% {of} it", "select")
"""Names of columns that SQL requires to be quoted."""

MAPPED = dict(zip(("symbol", "name", "sector", "market", "industry"), COLUMNS, strict=True))


def make_table(url: str, *parts: str) -> None:
    """Create a table with one symbol. ``parts`` is the name of the table, or the names of its schema and the table."""
    columns = SQL(", ").join(SQL("{} text").format(Identifier(name)) for name in COLUMNS)
    with psycopg.connect(url) as connection:
        if parts[1:]:
            connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(parts[0])))
        connection.execute(SQL("CREATE TABLE {} ({})").format(Identifier(*parts), columns))
        values = "'AAPL', 'Apple', 'Technology', 'stocks', 'Phones'"
        connection.execute(SQL("INSERT INTO {} VALUES ({})").format(Identifier(*parts), SQL(values)))


def read_symbols(url: str, table: str, **columns: str) -> dict[str, Any]:
    """Read the details of the symbols from a table."""
    settings = Settings(
        catalogue_dsn=url, catalogue_symbols_table=table, catalogue_symbol_columns={**MAPPED, **columns}
    )
    source = read_source(settings, None, None)
    assert source.symbols is not None
    assert source.symbols.refused == []
    return {name: entry.details for name, entry in source.symbols.entries.items()}


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (("symbols",), ["symbols", "public.symbols", '"symbols"']),
        (("market", "symbols"), ["market.symbols", '"market".symbols', '"market"."symbols"']),
        (("My Table",), ["My Table", '"My Table"', 'public."My Table"']),
        (("Market Data", "my.table"), ['Market Data."my.table"', '"Market Data"."my.table"']),
        (('a "quoted" one',), ['"a ""quoted"" one"']),
        (("50% {of} it",), ["50% {of} it"]),
    ],
)
def test_tables_and_columns_may_have_any_name(database_url: str, parts: tuple[str, ...], names: list[str]) -> None:
    make_table(database_url, *parts)
    for name in names:
        details = read_symbols(database_url, name)["AAPL"]
        assert [details[field] for field in MAPPED if field != "symbol"] == ["Apple", "Technology", "stocks", "Phones"]


def test_a_missing_table_or_column_is_reported_with_the_existing_ones(database_url: str) -> None:
    with pytest.raises(CatalogueError, match=r"no table or view symbols. Its user can read no tables. Correct TICKV"):
        read_symbols(database_url, "symbols")
    for parts in (("market", "Symbols"), ("a table",), ("my.table",)):
        make_table(database_url, *parts)
    for name in ("symbols", "public.symbols", "elsewhere.symbols"):
        with pytest.raises(CatalogueError) as refused:
            read_symbols(database_url, name)
        assert str(refused.value) == (
            f"The platform's database has no table or view {name}. "
            'Its user can read market.Symbols, a table, "my.table". Correct TICKVIEW_CATALOGUE_SYMBOLS_TABLE.'
        )
    with pytest.raises(CatalogueError) as refused:
        read_symbols(database_url, "market.Symbols", name="company name")
    assert str(refused.value) == (
        "The platform's table market.Symbols has no column company name for name. "
        'It has 50% {of} it, Company Name, Ticker, a "sector", select. '
        "Add the column, or name another column in TICKVIEW_CATALOGUE_SYMBOL_COLUMNS."
    )


def test_a_report_lists_a_limited_number_of_tables_the_likeliest_first(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for number in range(MAX_LISTED_TABLES + 5):
            connection.execute(f"CREATE TABLE table_{number:02} (a text)")
        connection.execute('CREATE VIEW "SYMBOLS" AS SELECT 1')
    with pytest.raises(
        CatalogueError, match=rf"can read SYMBOLS, table_00, .*, table_{MAX_LISTED_TABLES - 2}, 6 others. Correct"
    ):
        read_symbols(database_url, "symbols")


def test_a_report_does_not_list_tables_that_the_user_cannot_read(database_url: str) -> None:
    make_table(database_url, "secret")
    make_table(database_url, "hidden", "symbols")
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE open (ticker text, other text)")
        connection.execute("CREATE ROLE catalogue_reader LOGIN")
        connection.execute("GRANT SELECT (ticker) ON open TO catalogue_reader")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA hidden TO catalogue_reader")
    try:
        with pytest.raises(CatalogueError, match=r"no table or view symbols\. Its user can read open\. Correct"):
            read_symbols(make_conninfo(database_url, user="catalogue_reader"), "symbols")
    finally:
        with psycopg.connect(database_url) as connection:
            connection.execute("DROP OWNED BY catalogue_reader")
            connection.execute("DROP ROLE catalogue_reader")
