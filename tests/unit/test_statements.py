"""Files of SQL statements: each statement has a name, a description and a user, and a mistake is noticed at import."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import infra
from infra.postgres.statements import StatementError, Statements, load_statements

ROOT = Path(infra.__file__).parent
FILES = sorted(ROOT.rglob("statements.sql"))


def package_of(file: Path) -> str:
    return ".".join(("infra", *file.parent.relative_to(ROOT).parts))


@pytest.mark.parametrize("file", FILES, ids=package_of)
def test_every_statement_is_used_by_the_code_beside_it(file: Path) -> None:
    code = "".join(module.read_text(encoding="utf-8") for module in file.parent.glob("*.py"))
    names = set(load_statements(package_of(file)))
    assert names
    assert names == {name for name in names if re.search(rf'(statements|\))\["{name}"\]', code)}


@pytest.mark.parametrize("file", FILES, ids=package_of)
def test_a_copy_begins_the_text_of_its_statement(file: Path) -> None:
    # Archivers that stall in a COPY are found by the text of their statement (infra/archive/leases.py).
    import_module(package_of(file))
    for name, sql in load_statements(package_of(file)).items():
        assert "--" not in sql, name
        assert not name.startswith("copy_") or sql.startswith("COPY "), name


def test_comments_and_the_last_semicolon_are_no_part_of_a_statement() -> None:
    first, second = (
        "-- name: first\n-- Reads 100 %.\nSELECT 1;\n",
        "-- name: second\n-- Two.\nSELECT 2;\n-- and\nSELECT 3;\n",
    )
    text = f"-- A file.\n\n{first}\n{second}"
    assert dict(Statements("here", text)) == {"first": "SELECT 1", "second": "SELECT 2;\nSELECT 3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "-- A file.\n-- name: a\n-- One.\nSELECT 1;\n-- name: a\n-- Two.\nSELECT 2;",
            "two statements with the name a",
        ),
        ("-- A file.\n-- name: a\nSELECT 1;", "has no description"),
        ("-- A file.\n-- name: a\n-- One.\n", "has no SQL"),
    ],
)
def test_a_malformed_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(StatementError, match=message):
        Statements("here", text)


def test_an_unknown_statement_is_refused() -> None:
    with pytest.raises(StatementError, match=r"infra\.postgres/statements\.sql has no statement with the name nothing"):
        load_statements("infra.postgres")["nothing"]
