"""Refusals: the reasons why a message, or one item of a batch, cannot be read."""

import reprlib
from typing import Any, Literal, NamedTuple

from domain.errors import TickViewError

Code = Literal[
    "control-character",
    "empty-batch",
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


class RefusedError(TickViewError):
    """The message or the item of a batch cannot be read as an event.

    Attributes:
        refusal: The code and the reason.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


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
