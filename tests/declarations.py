"""Random declarations of read models, with random rows and queries. Few values, so that rows often tie."""

from dataclasses import MISSING, dataclass, field, make_dataclass
from itertools import product
from math import inf
from typing import Annotated, Any, cast

from hypothesis import strategies as st

from domain.events import Event, HealthReported
from projections.base import Count, Projection, StoredRow
from projections.columns import Case, Column
from projections.queries import Cursor, Equality, Filter, Query, Range
from tests.choices import one_value

NOW = 1_000.0

TEXTS = ("", "a", "A", "b:c", "Ä", "z z")
NUMBERS = (-1.5, 0.0, 0.1 + 0.2, 7.0, 7.0, 1e-9, 100.0)
SCALES = ((-inf, inf), (-inf, inf), (0.0, inf), (0.0, 100.0))
MOMENTS = (0.0, 999.0, 1_000.0, 1_000.5, 2_000.0)
KEYS = tuple(f"{first}{second}" for first in ("k", "K", "k:") for second in ("", "1", "2", "É", ":x"))

DeclaredProjection = type[Projection[Any, HealthReported]]


class _Declared(Projection[Any, Event]):
    """The base of all random projections. Their rows are written directly, so that they fold nothing."""

    name = "declared"
    version = 1
    key = "key"
    handles = (HealthReported,)

    def expiry(self, stored: StoredRow[Any]) -> Event:
        raise AssertionError(f"rows of random declarations are not expired: {stored}")


def _columns(kind: str) -> st.SearchStrategy[Column]:
    """Draw a column. One draw from all combinations takes a fraction of the time of one draw per property."""
    flags, cases = (True, True, True, False), cast("tuple[Case | None, ...]", (None, "upper", "lower"))
    return one_value(
        [
            Column(equality=equality, case=case, range=ranged, sort=sort, scale=scale)
            for equality, case, ranged, sort, scale in product(
                flags,
                cases if kind == "text" else (None,),
                flags if kind == "number" else (False,),
                flags if kind != "boolean" else (False,),
                SCALES,
            )
        ]
    )


_KINDS = one_value([*product(("text", "text", "number", "number", "boolean"), (True, False))])
"""The kind of a column, and whether values can be missing."""

_COLUMNS = {kind: _columns(kind) for kind in ("text", "number", "boolean")}


@dataclass(frozen=True)
class RichRow:
    """A row with every kind of column, which may all be missing."""

    a: Annotated[str | None, Column(equality=True, case="lower", sort=True)]
    b: Annotated[float | None, Column(range=True, sort=True, scale=(0.0, 100.0))]
    c: Annotated[bool | None, Column(equality=True)]
    ends: float | None


class Rich(_Declared):
    """A declaration with all that filters and orders can combine. Random declarations seldom have it."""

    row = RichRow
    order = "b"
    ends = "ends"


def declarations() -> st.SearchStrategy[DeclaredProjection]:
    """Make projections, every second of them rich."""
    return st.one_of(st.just(Rich), _random_declarations())


@st.composite
def _random_declarations(draw: st.DrawFn) -> DeclaredProjection:
    """Make a projection whose row has two to six columns."""
    types: dict[str, Any] = {"text": str, "number": float, "boolean": bool}
    columns: list[tuple[str, Any, Any]] = []
    numbers: list[str] = []
    for name in "abcdef"[: draw(st.integers(2, 6))]:
        kind, nullable = draw(_KINDS)
        column = draw(_COLUMNS[kind])
        value_type = types[kind]
        annotation: Any = Annotated[value_type | None, column] if nullable else Annotated[value_type, column]
        columns.append((name, annotation, MISSING))
        if kind == "number" and column.sort:
            numbers.append(name)
    members: dict[str, Any] = {"order": draw(st.sampled_from((None, *numbers, *numbers)))}
    if draw(st.booleans()):
        columns.append(("ends_at", float | None, MISSING))
        members["ends"] = "ends_at"
    if draw(st.booleans()):
        members["summaries"] = (Count("all"), Count("marked", where=lambda row: bool(row.a)))
    members["row"] = make_dataclass("Row", [(name, kind, field()) for name, kind, _ in columns], frozen=True)
    return type("Declared", (_Declared,), members)


_POOLS: dict[str, tuple[Any, ...]] = {"text": TEXTS, "number": NUMBERS, "boolean": (True, False)}


def values_of(projection: DeclaredProjection, name: str) -> st.SearchStrategy[Any]:
    """Return the values that a column can have."""
    column = projection.columns[name]
    values: tuple[Any, ...] = MOMENTS if name == projection.ends else _POOLS[column.kind]
    return st.sampled_from((*(None,) * len(values), *values) if column.nullable else values)


def rows_of(projection: DeclaredProjection, *, max_size: int = 15) -> st.SearchStrategy[dict[str, Any]]:
    """Make rows by key."""
    row = st.builds(projection.row, **{name: values_of(projection, name) for name in projection.columns})
    return st.dictionaries(st.sampled_from(KEYS), row, max_size=max_size)


_SETS = {kind: st.sets(st.sampled_from(pool), max_size=3) for kind, pool in _POOLS.items()}
_RANGES = one_value([*product((-inf, -inf, *NUMBERS), (*NUMBERS, inf, inf), (True, False))])
_PAGES = one_value([*product((0.0, NOW, 1_500.0), (True, False), (0, 0, 1, 3, 20), (0, 1, 2, 5, 30))])
"""The moment of a query, whether its order is descending, its offset and its limit."""


@st.composite
def queries_of(draw: st.DrawFn, projection: DeclaredProjection) -> Query:
    """Make a query with filters on some columns, an order and a page, by number or behind a cursor."""
    filters: list[Filter] = []
    if draw(st.integers(0, 4)) == 0:
        filters.append(Equality("key", draw(st.frozensets(st.sampled_from(KEYS), max_size=5))))
    for name, column in projection.columns.items():
        if column.equality and draw(st.integers(0, 2)) == 0:
            filters.append(Equality(name, frozenset(map(column.group, draw(_SETS[column.kind])))))
        if column.range and draw(st.integers(0, 2)) == 0:
            lowest, highest, missing_matches = draw(_RANGES)
            filters.append(Range(name, lowest, highest, missing_matches=missing_matches))
    sortable = [name for name, column in projection.columns.items() if column.sort]
    sort_by = draw(st.sampled_from((None, *sortable)))
    after = draw(st.one_of(st.none(), _cursors(projection, sort_by)))
    now, descending, offset, limit = draw(_PAGES)
    return Query(
        now=now,
        filters=tuple(filters),
        sort_by=sort_by,
        descending=descending,
        offset=0 if after else offset,
        after=after,
        limit=limit,
    )


def _cursors(projection: DeclaredProjection, sort_by: str | None) -> st.SearchStrategy[Cursor]:
    values: st.SearchStrategy[Any] = st.none()
    if sort_by and projection.columns[sort_by].kind == "text":
        values = st.one_of(st.none(), st.sampled_from(TEXTS))
    elif sort_by:
        values = st.sampled_from((-float("inf"), *NUMBERS))
    return st.builds(Cursor, values, st.sampled_from(KEYS))
