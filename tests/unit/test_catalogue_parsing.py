"""Parsing the sources of the catalogue: accepted rows, and refused rows with their reasons."""

from pathlib import Path
from typing import Any

import pytest

from infra.catalogue import parsing
from infra.catalogue.errors import CatalogueError
from infra.catalogue.file_source import read_file_rows
from infra.catalogue.parsing import SourceRows, SymbolEntry, read_symbols, read_universes
from projections.symbols import DETAILS


def symbols(*rows: dict[str, Any], **columns: str) -> SourceRows[SymbolEntry]:
    return read_symbols(((f"row {number}", row) for number, row in enumerate(rows, 1)), columns)


def reasons(parsed: SourceRows[Any]) -> list[tuple[str, str | None, str]]:
    return [tuple(refused) for refused in parsed.refused]


def test_columns_become_the_fields_of_a_symbol() -> None:
    parsed = symbols(
        {"symbol": " BRK.B ", "name": "Berkshire", "sector": "", "market_cap": "8.9e11", "active": "T", "other": 1},
        {"symbol": "OLD", "active": False, "market_cap": 5},
    )
    details = dict.fromkeys(DETAILS)
    assert parsed.refused == []
    assert parsed.entries == {
        "BRK.B": SymbolEntry("BRK.B", True, {**details, "name": "Berkshire", "market_cap": 8.9e11}),
        "OLD": SymbolEntry("OLD", False, {**details, "market_cap": 5.0}),
    }


def test_a_setting_renames_columns() -> None:
    parsed = symbols({"ticker": "A", "company": "Agilent", "name": "no"}, symbol="ticker", name="company")
    assert parsed.entries["A"].details["name"] == "Agilent"


@pytest.mark.parametrize(
    ("row", "subject", "reason_part"),
    [
        ({"name": "nobody"}, None, "symbol is missing or empty"),
        ({"symbol": "a b"}, None, "symbol is 'a b', which is not a symbol"),
        ({"symbol": "A", "market_cap": "much"}, "A", "market_cap is 'much', which is not a number"),
        ({"symbol": "A", "market_cap": -1}, "A", "market_cap is -1: expected a number of at least 0"),
        ({"symbol": "A", "market_cap": "nan"}, "A", "market_cap is 'nan', which is not a number"),
        ({"symbol": "A", "active": "maybe"}, "A", "active is 'maybe': expected true or false"),
        ({"symbol": "A", "sector": "x\ny"}, "A", "printable characters"),
        ({"symbol": "A", "name": 7}, "A", "name is 7, which is not a text"),
        ({"symbol": "FIRST"}, "FIRST", "FIRST is already defined at row 1"),
    ],
)
def test_an_invalid_symbol_row_is_refused_and_the_other_rows_are_read(
    row: dict[str, Any], subject: str | None, reason_part: str
) -> None:
    parsed = symbols({"symbol": "FIRST"}, row, {"symbol": "LAST"})
    assert list(parsed.entries) == ["FIRST", "LAST"]
    [(place, named_symbol, reason)] = reasons(parsed)
    assert (place, named_symbol) == ("row 2", subject)
    assert reason_part in reason


@pytest.mark.parametrize(
    "symbols_field", [["AAPL", "MSFT", "AAPL"], "AAPL MSFT", "AAPL,MSFT", "AAPL; MSFT", '["AAPL","MSFT"]']
)
def test_the_symbols_of_a_universe_are_read_from_lists_and_texts(symbols_field: Any) -> None:
    parsed = read_universes([("row 1", {"key": "two", "symbols": symbols_field})], {})
    assert parsed.entries["two"].symbols == ["AAPL", "MSFT"]


@pytest.mark.parametrize(
    ("row", "reason_part"),
    [
        ({"key": "a/b", "symbols": "A"}, "expected 1 to 64 letters, digits, blanks or"),
        ({"key": "a"}, "symbols is missing or empty"),
        ({"key": "a", "symbols": ["A", "b c"]}, "symbols[1] is 'b c', which is not a symbol"),
        ({"key": "a", "symbols": "[A"}, "begins like a JSON array but is not valid JSON"),
        ({"key": "a", "symbols": 7}, "symbols is 7, which is not a list of symbols"),
    ],
)
def test_an_invalid_universe_row_is_refused(row: dict[str, Any], reason_part: str) -> None:
    [refused] = read_universes([("row 1", row)], {}).refused
    assert reason_part in refused.reason


def test_a_source_over_a_limit_is_refused_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MAX_SYMBOLS", 2)
    parsed = symbols({"symbol": "A"}, {"symbol": "B", "market_cap": -1})
    assert (parsed.entries.keys(), len(parsed.refused)) == ({"A"}, 1), "a refused row counts once"
    with pytest.raises(CatalogueError, match="more than 2 rows"):
        symbols({"symbol": "A"}, {"symbol": ""}, {"symbol": "C"})
    monkeypatch.setattr(parsing, "MAX_TOTAL_MEMBERS", 2)
    universes = [(f"row {key}", {"key": key, "symbols": "A B"}) for key in "xy"]
    assert len(read_universes(universes[:1], {}).entries) == 1
    with pytest.raises(CatalogueError, match="more than 2 symbols"):
        read_universes(universes, {})


def write_file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_rows_of_files_have_line_numbers_or_item_numbers(tmp_path: Path) -> None:
    table = write_file(tmp_path, "s.CSV", '\ufeffsymbol,name\nA,"two\nlines"\nB,Bee\n')
    assert list(read_file_rows(table, "symbols", "symbol", {})) == [
        ("s.CSV line 3", {"symbol": "A", "name": "two\nlines"}),
        ("s.CSV line 4", {"symbol": "B", "name": "Bee"}),
    ]
    objects = [("s.json item 1", {"symbol": "A"}), ("s.json item 2", {})]
    for content in ('[{"symbol":"A"},7]', '{"symbols":[{"symbol":"A"},7]}'):
        assert list(read_file_rows(write_file(tmp_path, "s.json", content), "symbols", "symbol", {})) == objects


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x1c", "\x85"])
def test_a_unicode_separator_does_not_end_a_line_of_csv(tmp_path: Path, separator: str) -> None:
    table = write_file(tmp_path, "s.csv", f"symbol,name\r\nA,Citi{separator}Group\r\nB,Bee\r\n")
    assert [row for _, row in read_file_rows(table, "symbols", "symbol", {})] == [
        {"symbol": "A", "name": f"Citi{separator}Group"},
        {"symbol": "B", "name": "Bee"},
    ]


def test_spaces_around_column_names_are_ignored(tmp_path: Path) -> None:
    table = write_file(tmp_path, "s.csv", "symbol, name\nA, Agilent\n")
    assert read_symbols(read_file_rows(table, "symbols", "symbol", {}), {}).entries["A"].details["name"] == "Agilent"


@pytest.mark.parametrize(
    ("name", "content", "columns", "reason_part"),
    [
        ("s.csv", "", {}, "has no column symbol for symbol. It has no columns"),
        ("s.csv", "symbol;name\nA;Agilent\n", {}, "has no column symbol for symbol. It has symbol;name"),
        ("s.csv", "A,Agilent\n", {}, "has no column symbol for symbol. It has A, Agilent"),
        ("s.csv", "symbol,company\nA,Agilent\n", {"name": "firm"}, "has no column firm for name"),
        ("s.json", '[{"symbol":"A","company":"Agilent"}]', {"name": "firm"}, "has no column firm for name"),
        ("s.json", '[{"ticker":"A"}]', {}, "has no column symbol for symbol. It has ticker"),
        ("s.json", "[7]", {}, "has no column symbol for symbol. It has no columns"),
    ],
)
def test_a_file_without_a_required_column_is_refused_completely(
    tmp_path: Path, name: str, content: str, columns: dict[str, str], reason_part: str
) -> None:
    with pytest.raises(CatalogueError, match=reason_part):
        list(read_file_rows(write_file(tmp_path, name, content), "symbols", "symbol", columns))


@pytest.mark.parametrize(
    ("name", "content", "reason_part"),
    [
        ("s.txt", "symbol", "must end in .csv or .json"),
        ("s.json", "{", "is not valid JSON"),
        ("s.json", '{"universes":[]}', 'an object with such an array as "symbols"'),
        ("s.csv", b"symbol\n\xff\n", "is not UTF-8 at byte 7"),
        ("s.csv", 'symbol\n"A"B\n', "is not valid CSV"),
    ],
)
def test_a_file_with_an_invalid_format_is_refused(
    tmp_path: Path, name: str, content: str | bytes, reason_part: str
) -> None:
    with pytest.raises(CatalogueError, match=reason_part):
        list(read_file_rows(write_file(tmp_path, name, content), "symbols", "symbol", {}))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="No such file"):
        read_file_rows(tmp_path / "none.csv", "symbols", "symbol", {})
