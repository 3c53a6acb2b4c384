"""Table names in settings: with and without schema, with and without quotes, and invalid names."""

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
def test_a_table_name_is_split_into_parts_with_their_spelling(name: str, parts: tuple[str, ...]) -> None:
    assert parse_table_name(name) == parts


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", '"a', 'a"b', '"a"b', '""', 'a."', '"a" ."b"'])
def test_a_setting_refuses_an_invalid_table_name(name: str) -> None:
    with pytest.raises(ValidationError, match="is not the name of a table"):
        Settings(catalogue_symbols_table=name)
    with pytest.raises(ValidationError, match="is not the name of a table"):
        Settings(catalogue_universes_table=name)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
@example(["a.b", '"', '"a"'])
@example(["line\nend", " "])
def test_a_formatted_table_name_is_parsed_to_its_parts(parts: list[str]) -> None:
    assert parse_table_name(format_table_name(parts)) == tuple(parts)
