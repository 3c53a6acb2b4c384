"""Refusals: the reasons why a message, or one item of a batch, cannot be read."""

import reprlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from domain.errors import TickViewError

Code = Literal[
    "control-character",
    "empty-batch",
    "in-the-future",
    "invalid-event",
    "missing-field",
    "not-a-name",
    "not-a-number",
    "not-a-symbol",
    "not-a-time",
    "not-an-object",
    "not-json",
    "out-of-range",
    "reader-failed",
    "reserved-id",
    "same-id",
    "too-deep",
    "too-large",
    "unknown-channel",
    "unknown-event-type",
    "unknown-status",
    "wrong-channel",
    "wrong-type",
]
"""The kinds of refusals, for counting and filtering."""


class Refusal(NamedTuple):
    """A refusal of one message or of one item of a batch."""

    code: Code
    reason: str
    """One printable sentence: the field, its value (shortened), and the expected value."""


MAX_REFUSALS = 10
"""Highest number of items of a batch whose refusals are told one by one."""


class RefusedError(TickViewError):
    """The message or the item of a batch cannot be read as an event.

    Attributes:
        refusal: The code and the reason.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


def shorten(refusals: Sequence[Refusal]) -> list[Refusal]:
    """Return the first ``MAX_REFUSALS`` refusals, and one with the number of all others."""
    shown, others = list(refusals[:MAX_REFUSALS]), refusals[MAX_REFUSALS:]
    if others:
        shown.append(Refusal(others[0].code, f"{len(others)} more items are refused"))
    return shown


_limited = reprlib.Repr()
_limited.maxstring = _limited.maxother = 48


def preview(value: Any) -> str:
    """Return a JSON value as printable text of at most about 50 characters, for a reason."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case bool():
            return "true" if value else "false"
        case _:
            return _limited.repr(value)
