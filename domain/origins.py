"""The origin of an event: the way by which it arrived, its sender, and the dead letter with which it is connected.

A log stores the origin as words: the way, then ``subject=…`` and ``token=…`` of the sender, then ``percent=…`` with the
name of a field that was converted from per cent, then the id of the dead letter. All but the way may be missing. The
hash of an archived event covers its origin.
"""

from typing import NamedTuple

_SUBJECT, _TOKEN, _PERCENT = "subject=", "token=", "percent="


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


def format_origin(via: str, sender: str = "", dead_letter: str | None = None, percent: str | None = None) -> str:
    """Return an origin as a log stores it.

    Args:
        via: The way: ``http``, ``pubsub`` …
        sender: The words of the sender (``Sender.words``); empty if the way does not name a sender.
        dead_letter: The id of the dead letter.
        percent: The name of the field that was converted from per cent.
    """
    return " ".join(filter(None, (via, sender, percent and f"{_PERCENT}{percent}", dead_letter)))


def parse_origin(origin: str) -> Origin:
    """Parse an origin that a log stores. Unknown words count as the id of a dead letter, as in earlier releases."""
    via, *words = origin.split(" ")
    subject = token = dead_letter = percent = None
    for word in words:
        if word.startswith(_SUBJECT):
            subject = word.removeprefix(_SUBJECT)
        elif word.startswith(_TOKEN):
            token = word.removeprefix(_TOKEN)
        elif word.startswith(_PERCENT):
            percent = word.removeprefix(_PERCENT)
        else:
            dead_letter = word or None
    return Origin(via or None, subject, token, dead_letter, percent)
