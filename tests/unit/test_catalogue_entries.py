"""Rows of the catalogue's sources: what they may look like, and what is refused with the reason."""

from pathlib import Path
from typing import Any

import pytest

from infra.catalogue import parsing
from infra.catalogue.errors import CatalogueError
from infra.catalogue.file_source import read_file_rows
from infra.catalogue.parsing import SourceRows, SymbolEntry, read_symbols, read_universes


def symbols(*rows: dict[str, Any], **columns: str) -> SourceRows[SymbolEntry]:
    return read_symbols(((f"row {number}", row) for number, row in enumerate(rows, 1)), columns)


def reasons(found: SourceRows[Any]) -> list[tuple[str, str | None, str]]:
    return [tuple(one) for one in found.refused]


def test_a_symbol_is_what_its_columns_say() -> None:
    found = symbols(
        {"symbol": " brk.b ", "name": "Berkshire", "sector": "", "market_cap": "8.9e11", "active": "T", "other": 1},
        {"symbol": "OLD", "active": False, "market_cap": 5},
    )
    details = dict.fromkeys(("exchange", "market", "type", "sector", "industry"), None)
    assert found.refused == []
    assert found.entries == {
        "BRK.B": SymbolEntry("BRK.B", True, {"name": "Berkshire", "market_cap": 8.9e11, **details}),
        "OLD": SymbolEntry("OLD", False, {"name": None, "market_cap": 5.0, **details}),
    }


def test_columns_may_have_other_names() -> None:
    found = symbols({"ticker": "A", "company": "Agilent", "name": "no"}, symbol="ticker", name="company")
    assert found.entries["A"].details["name"] == "Agilent"


@pytest.mark.parametrize(
    ("row", "subject", "says"),
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
def test_a_row_that_is_none_is_refused_and_the_others_go_on(
    row: dict[str, Any], subject: str | None, says: str
) -> None:
    found = symbols({"symbol": "FIRST"}, row, {"symbol": "LAST"})
    assert list(found.entries) == ["FIRST", "LAST"]
    [(where, about, reason)] = reasons(found)
    assert (where, about) == ("row 2", subject)
    assert says in reason


@pytest.mark.parametrize(
    "spelled", [["aapl", "MSFT", "AAPL"], "AAPL MSFT", "aapl,msft", "AAPL; MSFT", '["AAPL","MSFT"]']
)
def test_the_symbols_of_a_universe_may_be_spelled_in_several_ways(spelled: Any) -> None:
    found = read_universes([("row 1", {"key": "two", "symbols": spelled})], {})
    assert found.entries["two"].symbols == ["AAPL", "MSFT"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"key": "a/b", "symbols": "A"}, "expected 1 to 64 letters, digits or"),
        ({"key": "a"}, "symbols is missing or empty"),
        ({"key": "a", "symbols": ["A", "b c"]}, "symbols[1] is 'b c', which is not a symbol"),
        ({"key": "a", "symbols": "[A"}, "begins like a JSON array but is not valid JSON"),
        ({"key": "a", "symbols": 7}, "symbols is 7, which is not a list of symbols"),
    ],
)
def test_a_universe_that_is_none_is_refused(row: dict[str, Any], says: str) -> None:
    [refused] = read_universes([("row 1", row)], {}).refused
    assert says in refused.reason


def test_too_much_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MAX_SYMBOLS", 2)
    found = symbols({"symbol": "A"}, {"symbol": "B", "market_cap": -1})
    assert (found.entries.keys(), len(found.refused)) == ({"A"}, 1), "a row that is refused counts once"
    with pytest.raises(CatalogueError, match="more than 2 rows"):
        symbols({"symbol": "A"}, {"symbol": ""}, {"symbol": "C"})
    monkeypatch.setattr(parsing, "MAX_TOTAL_MEMBERS", 2)
    universes = [(f"row {key}", {"key": key, "symbols": "A B"}) for key in "xy"]
    assert len(read_universes(universes[:1], {}).entries) == 1
    with pytest.raises(CatalogueError, match="more than 2 symbols"):
        read_universes(universes, {})


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_files_name_the_place_of_each_row(tmp_path: Path) -> None:
    table = written(tmp_path, "s.CSV", '\ufeffsymbol,name\nA,"two\nlines"\nB,Bee\n')
    assert list(read_file_rows(table, "symbols", "symbol", {})) == [
        ("s.CSV line 3", {"symbol": "A", "name": "two\nlines"}),
        ("s.CSV line 4", {"symbol": "B", "name": "Bee"}),
    ]
    objects = [("s.json item 1", {"symbol": "A"}), ("s.json item 2", {})]
    for content in ('[{"symbol":"A"},7]', '{"symbols":[{"symbol":"A"},7]}'):
        assert list(read_file_rows(written(tmp_path, "s.json", content), "symbols", "symbol", {})) == objects


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x1c", "\x85"])
def test_what_is_no_end_of_a_line_in_csv_ends_none(tmp_path: Path, separator: str) -> None:
    table = written(tmp_path, "s.csv", f"symbol,name\r\nA,Citi{separator}Group\r\nB,Bee\r\n")
    assert [row for _, row in read_file_rows(table, "symbols", "symbol", {})] == [
        {"symbol": "A", "name": f"Citi{separator}Group"},
        {"symbol": "B", "name": "Bee"},
    ]


def test_blanks_around_the_names_of_columns_are_left_off(tmp_path: Path) -> None:
    table = written(tmp_path, "s.csv", "symbol, name\nA, Agilent\n")
    assert read_symbols(read_file_rows(table, "symbols", "symbol", {}), {}).entries["A"].details["name"] == "Agilent"


@pytest.mark.parametrize(
    ("name", "content", "columns", "says"),
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
def test_a_file_without_a_column_that_must_be_there_is_refused_as_a_whole(
    tmp_path: Path, name: str, content: str, columns: dict[str, str], says: str
) -> None:
    with pytest.raises(CatalogueError, match=says):
        list(read_file_rows(written(tmp_path, name, content), "symbols", "symbol", columns))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("s.txt", "symbol", "must end in .csv or .json"),
        ("s.json", "{", "is not valid JSON"),
        ("s.json", '{"universes":[]}', 'an object with one as "symbols"'),
        ("s.csv", b"symbol\n\xff\n", "is not UTF-8 at byte 7"),
        ("s.csv", 'symbol\n"A"B\n', "is not valid CSV"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    with pytest.raises(CatalogueError, match=says):
        list(read_file_rows(written(tmp_path, name, content), "symbols", "symbol", {}))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="No such file"):
        read_file_rows(tmp_path / "none.csv", "symbols", "symbol", {})
