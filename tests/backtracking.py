"""A regular-expression matcher that counts its steps. It backtracks like the matcher of the module ``re``.

It covers the constructs that TickView's expressions use, and fails for every other one. The numbers of steps are not
those of ``re``, which skips some of them, but they grow alike.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

Continuation = Callable[[int], bool]

CATEGORIES = {
    constants.CATEGORY_DIGIT: r"\d",
    constants.CATEGORY_SPACE: r"\s",
    constants.CATEGORY_WORD: r"\w",
    constants.CATEGORY_NOT_WORD: r"\W",
}


@cache
def _parse(pattern: re.Pattern[str]) -> Sequence[Any]:
    return list(parser.parse(pattern.pattern, pattern.flags))


class StepCounter:
    """Matches a whole text against an expression, and counts every attempt to match a part of it.

    Args:
        pattern: The expression.
        text: The text.
    """

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self.steps = 0
        self._text = text
        self._ascii = pattern.flags & re.ASCII
        self.matches = self._match(_parse(pattern), 0, lambda at: at == len(text))

    def _match(self, nodes: Sequence[Any], at: int, then: Continuation) -> bool:
        """Match nodes at a position, and then the rest of the expression."""
        self.steps += 1
        if not nodes:
            return then(at)
        (kind, value), rest = nodes[0], nodes[1:]

        def proceed(position: int) -> bool:
            return self._match(rest, position, then)

        if kind in (constants.LITERAL, constants.NOT_LITERAL, constants.IN, constants.ANY):
            return at < len(self._text) and self._accepts(kind, value, self._text[at]) and proceed(at + 1)
        if kind is constants.BRANCH:
            return self._match_any(value[1], at, proceed)
        if kind is constants.SUBPATTERN:
            return self._match(list(value[3]), at, proceed)
        if kind is constants.MAX_REPEAT:
            lowest, highest, repeated = value
            return self._repeat(list(repeated), int(lowest), int(highest), at, proceed)
        if kind is constants.ASSERT_NOT:
            direction, asserted = value
            start = at if direction > 0 else at - asserted.getwidth()[0]
            return (start < 0 or not self._match(list(asserted), start, lambda _: True)) and proceed(at)
        if kind is constants.AT:
            return (at == 0 if value is constants.AT_BEGINNING else at == len(self._text)) and proceed(at)
        raise NotImplementedError(f"{kind} is not covered")

    def _match_any(self, branches: Sequence[Any], at: int, then: Continuation) -> bool:
        """Match the first of the branches that lets the rest match."""
        # Not by ``any`` of a generator, which calls Python from C: since Python 3.12, such calls nest less deeply.
        for branch in branches:  # noqa: SIM110
            if self._match(list(branch), at, then):
                return True
        return False

    def _repeat(self, nodes: Sequence[Any], lowest: int, highest: int, at: int, then: Continuation) -> bool:
        """Match nodes as often as possible, then less often."""
        if len(nodes) == 1 and nodes[0][0] in (constants.LITERAL, constants.NOT_LITERAL, constants.IN, constants.ANY):
            # Without recursion: the texts are longer than the stack of Python.
            number = 0
            while number < highest and at + number < len(self._text):
                self.steps += 1
                if not self._accepts(*nodes[0], self._text[at + number]):
                    break
                number += 1
            return any(then(at + count) for count in range(number, lowest - 1, -1))
        self.steps += 1
        if highest and self._match(
            nodes,
            at,
            lambda end: end > at and self._repeat(nodes, max(lowest - 1, 0), highest - 1, end, then),
        ):
            return True
        return lowest == 0 and then(at)

    def _accepts(self, kind: Any, value: Any, character: str) -> bool:
        if kind is constants.ANY:
            return character != "\n"
        if kind is constants.LITERAL:
            return ord(character) == value
        if kind is constants.NOT_LITERAL:
            return ord(character) != value
        negated = value[0][0] is constants.NEGATE
        return negated != any(self._is_member(member, character) for member in value[negated:])

    def _is_member(self, member: Any, character: str) -> bool:
        kind, value = member
        if kind is constants.LITERAL:
            return ord(character) == value
        if kind is constants.RANGE:
            return bool(value[0] <= ord(character) <= value[1])
        return re.match(CATEGORIES[value], character, self._ascii) is not None
