"""The notes of the producers and users: what they sent, and what the service acknowledged."""

from collections.abc import Set
from dataclasses import dataclass, field
from typing import NamedTuple


class Attempt(NamedTuple):
    """The last attempt to send a message."""

    began: float
    """Epoch second before the attempt."""
    ended: float
    """Epoch second after the attempt."""


class LossOfData(NamedTuple):
    """A loss of data in Redis. What was acknowledged before and is not archived may be lost."""

    moment: float
    """Epoch second at which the server was dead."""
    archived: Set[str]
    """Ids of the events that were in the archive before the server returned."""


@dataclass
class Sent:
    """What was sent, and the losses of data that happened meanwhile."""

    events: dict[str, Attempt] = field(default_factory=dict)
    """Id of an acknowledged event -> the attempt that was acknowledged."""
    rubbish: dict[str, Attempt] = field(default_factory=dict)
    """Message that must be a dead letter -> the attempt that was acknowledged."""
    published: dict[str, Attempt] = field(default_factory=dict)
    """Id of an event that was published, without an acknowledgement -> the last attempt."""
    losses: list[LossOfData] = field(default_factory=list)
    losing: bool = False
    """Whether Redis is losing data just now, so that an answer may be taken back by a later one."""
    listened_again: float = 0.0
    """Epoch second at which a recorder listened again after the last loss. Redis forgot who had listened before."""
    faults: list[str] = field(default_factory=list)
    """Wrong answers to users."""

    def events_to_find(self) -> set[str]:
        """Return the ids of the events that must be recorded."""
        return {
            identity
            for identity, attempt in self.events.items()
            if all(identity in loss.archived or attempt.began > loss.moment for loss in self.losses)
        }

    def rubbish_to_find(self) -> set[str]:
        """Return the messages that must be dead letters. Redis alone keeps dead letters, so that a loss takes them."""
        moment = max((loss.moment for loss in self.losses), default=0.0)
        return {message for message, attempt in self.rubbish.items() if attempt.began > moment}

    def published_to_explain(self) -> dict[str, Attempt]:
        """Return the published events that must be recorded or lie in a gap. Redis alone keeps gaps."""
        return {identity: sent for identity, sent in self.published.items() if sent.began > self.listened_again}
