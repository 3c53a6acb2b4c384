"""Texts of others do not control the terminal of an operator."""

import io
import json
import re
import unicodedata

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table

from infra.processes.terminal import TerminalConsole, escape_controls, escape_controls_in_json

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\x08\r\u202egnp.exe\x7f"


def controls(text: str) -> set[str]:
    """Return the control and formatting characters of a text that change its display."""
    bidirectional = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return {
        character
        for character in text
        if (unicodedata.category(character) == "Cc" and character not in "\n\t")
        or unicodedata.bidirectional(character) in bidirectional
    }


@given(st.text())
@example(HOSTILE)
def test_an_escaped_text_has_no_control_characters(text: str) -> None:
    assert controls(escape_controls(text)) == set()
    if text.isprintable() and not controls(text) and text.isascii():
        assert escape_controls(text) == text


@given(st.dictionaries(st.text(), st.text()))
@example({HOSTILE: HOSTILE})
def test_escaped_json_has_the_same_content(content: dict[str, str]) -> None:
    document = escape_controls_in_json(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    assert controls(document.decode()) == set()
    assert json.loads(document) == content


def test_a_console_escapes_texts_and_keeps_its_own_colours() -> None:
    output = io.StringIO()
    console = TerminalConsole(file=output, force_terminal=True, width=200, color_system="standard")
    table = Table("column", header_style="bold")
    table.add_row(HOSTILE)
    console.print(table)
    console.print(HOSTILE, markup=False)
    console.print("[red]error[/]")
    printed = output.getvalue()
    assert "\x1b[31merror\x1b[0m" in printed
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert controls(without_colours) == set()
    assert without_colours.count(r"\x1b]0;title") == 2


def test_a_console_prints_ids_as_they_are() -> None:
    output = io.StringIO()
    console = TerminalConsole(file=output, width=200)
    table = Table("id")
    table.add_row("NVDA:Hammer:daily:1")
    console.print(table)
    console.print("NVDA:Hammer:daily:2", markup=False)
    printed = output.getvalue()
    assert "NVDA:Hammer:daily:1" in printed
    assert "NVDA:Hammer:daily:2" in printed
