"""Deliveries: the matches of alerts that wait to be delivered, and the outcomes of their attempts."""

import random
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec

Channel = Literal["webhook", "push"]


class Delivery(msgspec.Struct, kw_only=True, frozen=True):
    """One detection for one alert. It names the alert and does not contain it, so that an alert can be forgotten."""

    id: str
    """Id of the delivery, derived from the alert and the event. It is the header ``webhook-id``."""
    user: str
    list_id: str
    """Id of the preset."""
    since: float
    """Creation of the alert in epoch seconds. An alert that was removed and set again is another alert."""
    channel: Channel
    event_id: str
    """Event id of the detection."""
    pattern_id: str
    position: str
    """Log and position of the detection: ``market-0=17``."""
    recorded_at: float
    """Time at which the detection was recorded, in epoch seconds."""
    due: float
    """Time of the next attempt in epoch seconds."""
    attempts: int = 0
    """Number of attempts made."""
    refusal: str = ""
    """Why no attempt is to be made. Empty: there is no such reason."""
    pattern: msgspec.Raw = msgspec.Raw(b"null")
    """The row of the pattern as JSON. The queue in memory does not hold it."""

    def without_pattern(self) -> "Delivery":
        """Return the delivery as the queue in memory holds it."""
        return msgspec.structs.replace(self, pattern=msgspec.Raw(b"null"))


def delivery_id(user: str, list_id: str, since: float, event_id: str) -> str:
    """Return the id of a delivery. It is the same whenever the same event is matched with the same alert."""
    return "msg_" + sha256("\0".join((user, list_id, repr(since), event_id)).encode()).hexdigest()[:32]


class Outcome(NamedTuple):
    """The outcome of an attempt, or of the end of an alert."""

    delivery: Delivery
    kind: Literal["delivered", "failed", "retry", "dropped"]
    """``failed``: given up. ``dropped``: the alert has ended, so that nothing is recorded."""
    status: int | None = None
    """The HTTP status of the answer, if there was one."""
    reason: str = ""
    """Why the attempt failed."""


class BackOff(NamedTuple):
    """The waits between the attempts of a delivery. They grow by ``factor``, up to ``longest``."""

    first: float = 5.0
    """The first wait in seconds."""
    factor: float = 4.0
    longest: float = 21_600.0
    """The longest wait in seconds."""
    attempts: int = 11
    """Highest number of attempts. With these values the last attempt is about 25 hours after the first."""
    jitter: float = 0.2
    """Largest share by which a wait is shortened or extended at random."""

    def wait(self, attempts: int) -> float:
        """Return the seconds to wait after a number of attempts, from 1."""
        seconds = min(self.first * self.factor ** (attempts - 1), self.longest)
        return seconds * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 no secret depends on it
