"""The origin of an event: the way by which it arrived, its sender, and the dead letter with which it is connected.

A log stores the origin as words: the way, then ``subject=…`` and ``token=…`` of the sender, then ``percent=…`` with the
name of a field that was converted from per cent, then ``trace=…`` with the W3C ``traceparent``, then the id of the dead
letter. All but the way may be missing. The hash of an archived event covers its origin.
"""

import re
from typing import NamedTuple

_SUBJECT, _TOKEN, _PERCENT, _TRACE = "subject=", "token=", "percent=", "trace="
_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Sender(NamedTuple):
    """The sender of a message or of a command. Neither text has a space."""

    subject: str
    """The subject of the token; without authentication the user of the development mode, or of the command line."""
    token: str | None = None
    """The id of the token; None if there was no token, or the token has no id."""

    @property
    def words(self) -> str:
        """The words of the origin that name the sender."""
        subject = f"{_SUBJECT}{self.subject}"
        return subject if self.token is None else f"{subject} {_TOKEN}{self.token}"


class Origin(NamedTuple):
    """A parsed origin. A part that is missing is None."""

    via: str | None
    subject: str | None
    token: str | None
    dead_letter: str | None
    percent: str | None = None
    """The field of the message that was converted from per cent: ``confidence`` or ``progress``."""
    trace: str | None = None
    """The trace to which the event belongs, as a ``traceparent`` of W3C Trace Context."""


def is_traceparent(value: object) -> bool:
    """Return whether a value is a ``traceparent`` of version 00 (https://www.w3.org/TR/trace-context/)."""
    return isinstance(value, str) and _TRACEPARENT.fullmatch(value) is not None


def trace_of(origin: str) -> str | None:
    """Return the ``traceparent`` in an origin, or None."""
    return parse_origin(origin).trace if _TRACE in origin else None


def format_origin(
    via: str,
    sender: str = "",
    dead_letter: str | None = None,
    percent: str | None = None,
    trace: str | None = None,
) -> str:
    """Return an origin as a log stores it.

    Args:
        via: The way: ``http``, ``pubsub`` …
        sender: The words of the sender (``Sender.words``); empty if the way does not name a sender.
        dead_letter: The id of the dead letter.
        percent: The name of the field that was converted from per cent.
        trace: The ``traceparent`` that came with the message.
    """
    converted, traced = percent and f"{_PERCENT}{percent}", trace and f"{_TRACE}{trace}"
    return " ".join(filter(None, (via, sender, converted, traced, dead_letter)))


def parse_origin(origin: str) -> Origin:
    """Parse an origin that a log stores. Unknown words count as the id of a dead letter, as in earlier releases."""
    via, *words = origin.split(" ")
    subject = token = dead_letter = percent = trace = None
    for word in words:
        if word.startswith(_SUBJECT):
            subject = word.removeprefix(_SUBJECT)
        elif word.startswith(_TOKEN):
            token = word.removeprefix(_TOKEN)
        elif word.startswith(_PERCENT):
            percent = word.removeprefix(_PERCENT)
        elif word.startswith(_TRACE):
            trace = word.removeprefix(_TRACE)
        else:
            dead_letter = word or None
    return Origin(via or None, subject, token, dead_letter, percent, trace)
