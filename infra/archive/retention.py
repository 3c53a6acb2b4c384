"""Takes out of a log what the archive and every read model have passed, by age and by size."""

import time
from dataclasses import dataclass

from redis import Redis

from infra.log.event_log import EventLog
from infra.log.maintenance import TRIM_BATCH, trim
from infra.read_models.checkpoints import read_checkpoints


@dataclass(frozen=True)
class Retention:
    """What a log keeps although nobody needs it any more."""

    age: float
    """Seconds; an event that is older goes."""
    size: int
    """Events; the oldest beyond it go."""


def trim_log(log: EventLog, client: Redis, archived: int, retention: Retention) -> int:
    """Take events out of ``log`` up to the position ``archived`` at most; returns how many went.

    ``client`` is of the server that has the read models.
    """
    passed = min([archived, *(one.position for one in read_checkpoints(client, log.name))])
    surplus = log.head() - retention.size
    gone = 0
    while True:
        some = trim(log, upto=passed, surplus=surplus, oldest=time.time() - retention.age)
        gone += some
        if some < TRIM_BATCH:
            return gone
