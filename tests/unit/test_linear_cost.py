"""The cost of reading grows like the size of the input. Steps are counted, because time depends on luck."""

import importlib
import itertools
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, ModuleType
from typing import Any

import orjson
import pytest

import domain
import infra
import projections
import readapi
from domain.wire import CHANNELS, PATTERNS, read
from tests.backtracking import StepCounter

SIZES = (150, 300)
"""Numbers of repetitions. Quadratic steps grow fourfold with each size, linear steps twofold."""

CHARACTERS = "0a.:-+,/'\" \t\\=()%_@~eT\n"
"""Characters that TickView's expressions tell apart."""


def modules() -> Iterator[ModuleType]:
    for package in (domain, projections, readapi, infra):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__") and not found.name.startswith("infra.bench"):
                yield importlib.import_module(found.name)


def expressions() -> dict[str, re.Pattern[Any]]:
    """Return every compiled expression and every named pattern of the product, by its name."""
    found: dict[str, re.Pattern[Any]] = {}
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                found[f"{module.__name__}.{name}"] = value
            elif isinstance(value, str) and name.endswith("_PATTERN"):
                found[f"{module.__name__}.{name}"] = re.compile(value)
    return found


EXPRESSIONS = expressions()


@pytest.fixture(autouse=True)
def _deep_recursion() -> Iterator[None]:
    """Let the counter of steps match long texts. It calls itself for each repetition."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    yield
    sys.setrecursionlimit(before)


def assert_linear(steps_of: Callable[[int], int], description: str, sizes: Sequence[int] = SIZES) -> None:
    """Check that twice the input takes at most twice the steps, and some more."""
    steps = [steps_of(size) for size in sizes]
    for before, after in itertools.pairwise(steps):
        assert after <= 2.3 * before + 100, f"the steps for {description} grow faster than the input: {steps}"


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_steps_of_an_expression_grow_linearly(name: str) -> None:
    expression = EXPRESSIONS[name]
    for repeated in itertools.chain(CHARACTERS, map("".join, itertools.permutations(CHARACTERS[:9], 2))):
        for prefix, suffix in (("", "!"), ("a", "!"), ("0", "\0"), ('password="', "!")):

            def count(size: int, repeated: str = repeated, prefix: str = prefix, suffix: str = suffix) -> int:
                return StepCounter(expression, prefix + repeated * size + suffix).steps

            assert_linear(count, repr(prefix + repeated))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_counter_of_steps_matches_what_the_expression_matches(name: str) -> None:
    expression = EXPRESSIONS[name]
    texts = ["", "a", "A.B", "12.5e-3", " 7 ", "2026-11-25T09:00:00Z", "market-0=1,users=2", "localhost:80", "x" * 300]
    for text in texts:
        assert StepCounter(expression, text).matches == bool(expression.fullmatch(text)), text


def test_a_quadratic_expression_is_found() -> None:
    expression = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
    with pytest.raises(AssertionError, match="grow faster"):
        assert_linear(lambda size: StepCounter(expression, "0" * size + "a").steps, "digits", (50, 100))


def calls_of(function: Callable[[], object]) -> int:
    """Return the number of calls and lines that Python executes."""
    number = 0

    def trace(_frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal number
        number += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return number


FIELDS = (
    "symbol",
    "pattern",
    "confidence",
    "timestamp",
    "expires_at",
    "source",
    "price",
    "event_id",
    "indicators",
    "x",
)

SHAPES: dict[str, Callable[[int], Any]] = {
    "digits": lambda size: "9" * size + "a",
    "letters": lambda size: "a" * size,
    "blanks": lambda size: " " * size + "a",
    "numbers": lambda size: [1e15] * size,
    "empty objects": lambda size: [{}] * size,
    "names": lambda size: {f"{'outer.' * (number % 50)}{number}": number for number in range(size)},
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_steps_of_reading_grow_linearly_with_each_field(field: str, shape: str) -> None:
    def count(size: int) -> int:
        data = {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.5, field: SHAPES[shape](size)}
        payload = orjson.dumps({"event_type": "pattern_detected", "source": "daily", "data": data, field: "outer"})
        return calls_of(lambda: read(PATTERNS, payload, 1_757_000_000.0))

    assert_linear(count, f"{field} of {shape}")


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_steps_of_reading_grow_linearly_with_the_message(channel: str) -> None:
    openings = [b"[", b"{", b'{"a":', b"[{},", b'{"data":{', b"1,", b'"', b"\\u0000", b"\xff", b"9"]
    for opening in openings:

        def count(size: int, opening: bytes = opening) -> int:
            return calls_of(lambda: read(channel, opening * size, 0.0))

        assert_linear(count, repr(opening))


@pytest.mark.parametrize("item", [1, "a", {}, [], {"symbol": "AAPL"}, {"symbol": "AAPL", "pattern": "Doji"}], ids=str)
def test_the_steps_of_reading_grow_linearly_with_the_items_of_a_batch(item: Any) -> None:
    def count(size: int) -> int:
        payload = orjson.dumps({"event_type": "patterns_batch", "source": "daily", "patterns": [item] * size})
        return calls_of(lambda: read(PATTERNS, payload, 0.0))

    assert_linear(count, f"items {item}")
