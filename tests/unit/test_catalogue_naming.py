"""Names of tables in settings: with a schema or not, in quotes or not, and what is no name."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.settings import Settings
from infra.settings.table_names import format_table_name, parse_table_name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("symbols", ("symbols",)),
        ("market.symbols", ("market", "symbols")),
        ("Market Data.My Table", ("Market Data", "My Table")),
        ('"My Table"', ("My Table",)),
        ('"Market Data"."My Table"', ("Market Data", "My Table")),
        ('market."my.table"', ("market", "my.table")),
        ('"a""b".c', ('a"b', "c")),
        ("database.schema.table", ("database", "schema", "table")),
    ],
)
def test_a_name_has_a_schema_and_a_table_spelled_as_they_are(name: str, parts: tuple[str, ...]) -> None:
    assert parse_table_name(name) == parts


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", '"a', 'a"b', '"a"b', '""', 'a."', '"a" ."b"'])
def test_what_is_no_name_is_refused_by_the_setting(name: str) -> None:
    with pytest.raises(ValidationError, match="is not the name of a table"):
        Settings(catalogue_symbols_table=name)
    with pytest.raises(ValidationError, match="is not the name of a table"):
        Settings(catalogue_universes_table=name)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
@example(["a.b", '"', '"a"'])
@example(["line\nend", " "])
def test_a_name_is_told_as_it_may_be_written(parts: list[str]) -> None:
    assert parse_table_name(format_table_name(parts)) == tuple(parts)
