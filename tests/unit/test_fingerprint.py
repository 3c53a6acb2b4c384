"""Fingerprints of projections: they change with the behaviour of a projection, and with nothing else."""

import ast
import importlib
import py_compile
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

from projections.base import Projection
from projections.fingerprint import NoSourceError, canonical, fingerprint
from projections.registry import READ_MODELS

SOURCE = '''\
"""How many health reports there were."""

from dataclasses import dataclass
from typing import Annotated

from domain.events import HealthReported
from projections.base import Count, Projection
from projections.columns import Column
from {package}.steps import step

FIRST = 1


@dataclass(frozen=True)
class Row:
    """Reports of one source."""

    source: str
    reports: Annotated[int, Column(range=True, unit="reports")] = 0
    """How many."""


def following(reports: int) -> int:
    # One more.
    return reports + step()


class Reports(Projection[Row, HealthReported]):
    """Counts."""

    name, version = "reports", 1
    row = Row
    handles = (HealthReported,)
    key = "source"
    summaries = (Count("all"),)

    def keys(self, event):
        return (f"{{event.source}}/{{event.status!r:>4}}",)

    def group_of(self, key):
        return key.partition("/")[0]

    def evolve(self, row, event):
        """One more."""
        if row is None:
            return Row(event.source, FIRST)
        return Row(row.source, following(row.reports))
'''

STEPS = """\
STEP = 1

def step():
    return STEP
"""

CHANGES_OF_BEHAVIOUR = {
    "evolve": ("if row is None:", "if row is None or row.reports > 9:"),
    "keys": ("!r:>4", "!r:>5"),
    "group_of": ('partition("/")[0]', 'partition("/")[2]'),
    "the queries of a column": ("range=True", "range=True, sort=True"),
    "the key": ('key = "source"', 'key = "reporter"'),
    "a summary": ('Count("all")', 'Count("all", by=lambda row: row.source)'),
    "a field of the row": ("    source: str\n", "    source: str\n    seen: bool\n"),
    "a field's default": ("] = 0", "] = 1"),
    "a decorator": ("frozen=True", "frozen=True, slots=True"),
    "a constant": ("FIRST = 1", "FIRST = 2"),
    "a function": ("return reports + step()", "return reports - step()"),
    "nesting": (
        "        return Row(row.source, following(row.reports))",
        "            return Row(row.source, following(row.reports))",
    ),
}

CHANGES_OF_FORM = {
    "comments": ("# One more.", "# Another one."),
    "no comments": ("    # One more.\n", ""),
    "the module's docstring": ('"""How many health reports there were."""', '"""Reports,\n\ncounted."""'),
    "no docstring": ('        """One more."""\n', ""),
    "a field's docstring": ('    """How many."""', '    """The number of them."""'),
    "blank lines": ("FIRST = 1\n\n", "\nFIRST = 1\n\n\n"),
    "the order of imports": (
        "from domain.events import HealthReported\nfrom projections.base import Count, Projection",
        "from projections.base import Projection, Count\nfrom domain.events import HealthReported",
    ),
    "line breaks": ("return Row(event.source, FIRST)", "return Row(\n                event.source,\n  FIRST,\n   )"),
    "parentheses": ("return reports + step()", "return (reports + step())"),
    "quotes": ('unit="reports"', "unit='reports'"),
    "joined texts": ('unit="reports"', 'unit="rep" "orts"'),
    "joined texts, one formatted": ('f"{{event.source}}/', 'f"{{event.source}}" "/" f"'),
    "indentation": ("    return reports + step()", "  return reports + step()"),
}


class Write(Protocol):
    def __call__(self, source: str = SOURCE, steps: str = STEPS) -> Projection: ...


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A function that writes a new package with given sources and imports its projection."""
    monkeypatch.syspath_prepend(tmp_path)
    modules_before = set(sys.modules)

    def write_package(source: str = SOURCE, steps: str = STEPS) -> Projection:
        package = f"variant_{len(list(tmp_path.iterdir()))}"
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "reports.py").write_text(source.format(package=package))
        (folder / "steps.py").write_text(steps)
        return import_fresh(f"{package}.reports").Reports()

    yield write_package
    for name in set(sys.modules) - modules_before:
        del sys.modules[name]


def import_fresh(name: str) -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module(name)


def replace_once(source: str, change: tuple[str, str]) -> str:
    assert source.count(change[0]) == 1
    return source.replace(*change)


def test_a_fingerprint_has_16_hexadecimal_digits(write: Write) -> None:
    digits = fingerprint(write())
    assert len(digits) == 16
    assert int(digits, 16) > 0


def test_a_copy_in_another_package_has_the_same_fingerprint(write: Write) -> None:
    assert fingerprint(write()) == fingerprint(write())


@pytest.mark.parametrize("change", CHANGES_OF_BEHAVIOUR.values(), ids=CHANGES_OF_BEHAVIOUR)
def test_a_change_of_behaviour_changes_the_fingerprint(write: Write, change: tuple[str, str]) -> None:
    assert fingerprint(write()) != fingerprint(write(replace_once(SOURCE, change)))


@pytest.mark.parametrize("change", CHANGES_OF_FORM.values(), ids=CHANGES_OF_FORM)
def test_a_change_of_form_keeps_the_fingerprint(write: Write, change: tuple[str, str]) -> None:
    assert fingerprint(write()) == fingerprint(write(replace_once(SOURCE, change)))


@pytest.mark.parametrize("import_form", ["from {package}.steps import", "from .steps import"])
def test_a_changed_module_of_the_same_package_changes_the_fingerprint(write: Write, import_form: str) -> None:
    source = replace_once(SOURCE, ("from {package}.steps import", import_form))
    assert fingerprint(write(source)) == fingerprint(write())
    assert fingerprint(write(source)) != fingerprint(write(source, replace_once(STEPS, ("STEP = 1", "STEP = 2"))))


def test_a_changed_base_class_in_another_module_changes_the_fingerprint(write: Write, tmp_path: Path) -> None:
    bases = [write(), write(replace_once(SOURCE, CHANGES_OF_BEHAVIOUR["evolve"]))]
    digits = set()
    for base in bases:
        module = type(base).__module__
        name = f"derived_{module.partition('.')[0]}"
        (tmp_path / f"{name}.py").write_text(f"from {module} import Reports as Base\nclass Reports(Base): ...\n")
        digits.add(fingerprint(import_fresh(name).Reports()))
    assert len(digits) == 2


def test_a_projection_without_source_is_refused(write: Write, tmp_path: Path) -> None:
    write()
    source = tmp_path / "variant_0" / "reports.py"
    compiled = tmp_path / "compiled_only.pyc"
    py_compile.compile(str(source), str(compiled), doraise=True)
    with pytest.raises(NoSourceError, match="no source of compiled_only"):
        fingerprint(import_fresh("compiled_only").Reports())


def test_every_read_model_has_its_own_fingerprint() -> None:
    assert len({fingerprint(projection) for projection in READ_MODELS.values()}) == len(READ_MODELS)


SYNTAX = r'''
"""Syntax that Python versions from 3.11 on parse differently or represent with different fields."""
from __future__ import annotations
@decorated(a, *b, c=1, **d)
async def f(a, /, b: int = -1, *args: list[int | None], c: str | None = None, **kwargs) -> float:
    """Gone."""
    x = f"{a}" 'b' f"{c!r:>{width}.{places}}{{}}{d=}" "é\N{BULLET}" u"u" f"{g['k']:%Y-%m-%d}"
    y = 1_000.50, 0x1F, 2j, ..., None, True, b"\xff", 10**30, lambda *z, q=2: (yield)
    match y:
        case {"k": [1, *_], **rest} if (n := len(rest)) > 0 or False:
            pass
        case Point(x=0) | None as p:
            return p
    try:
        async with g() as h, i: ...
    except* (KeyError, ValueError) as e:
        raise X from e
    else:
        del x[1:2, ::3], y.z
    finally:
        [await k async for k in m if k for o in k]
    while True: break
    global G
    G: dict[str, tuple[int, ...]] = {**a, "b": not -c, **{d for d in e}}
    assert a is not b, "message"
class C(B, metaclass=M): ...
'''


def test_the_canonical_form_is_the_same_in_every_python_version() -> None:
    """The expected value is constant, and the tests run on every supported Python version."""
    form = canonical(ast.parse(SYNTAX))
    assert sha256(form.encode()).hexdigest()[:16] == "a5706d6b04d4743f"
