"""Why a message, or one item of a batch, could not be read."""

import reprlib
from typing import Any, Literal, NamedTuple

from domain.errors import TickViewError

Code = Literal[
    "control-character",
    "empty-batch",
    "missing-field",
    "not-a-name",
    "not-a-number",
    "not-a-symbol",
    "not-a-time",
    "not-an-object",
    "not-json",
    "out-of-range",
    "too-deep",
    "too-large",
    "unknown-channel",
    "unknown-event-type",
    "unknown-status",
    "wrong-channel",
    "wrong-type",
]
"""The kinds of refusal, for counting and filtering; the reason says the rest."""


class Refusal(NamedTuple):
    """A named refusal."""

    code: Code
    reason: str
    """One printable sentence: the field, what it holds (shortened), what would be right."""


class RefusedError(TickViewError):
    """The message cannot be read as an event."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 48


def preview(value: Any) -> str:
    """A JSON value for a reason: printable, at most some 50 characters."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case bool():
            return "true" if value else "false"
        case _:
            return _short.repr(value)
