"""Faults after which a server has less data than before: those of the Redis servers, and a restored PostgreSQL."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psutil
import psycopg

from tests.chaos.producers import CHANNEL
from tests.chaos.redis_servers import SERVER_ERRORS, Fault, Loss
from tests.chaos.sent import LossOfData, Sent
from tests.chaos.system import System, suspended

WAIT_SECONDS = 30.0
"""Seconds within which a server or a recorder that was killed works again."""


class Losses:
    """The faults that lose data. Those of Redis are noted, because what was not archived may be lost.

    Args:
        system: The system.
        sent: Where the losses are noted.
    """

    def __init__(self, system: System, sent: Sent) -> None:
        self._system = system
        self._sent = sent

    def choose(self, chance: random.Random) -> Fault:
        """Choose a fault that loses data, or a fault of a role."""
        redis = [partial(self._lose, loss) for loss in self._system.redis.losses]
        own = [self.restore_postgres, self._system.kill_role, self._system.suspend_role]
        return chance.choice(chance.choice([own, redis]))

    def _lose(self, loss: Loss, chance: random.Random) -> str:
        """Let Redis servers lose data."""
        self._sent.losing = True
        description = loss(chance, self._note_loss)
        self._sent.losing = False
        self._wait_for_listener()
        return description

    def restore_postgres(self, chance: random.Random) -> str:
        """Copy the files of PostgreSQL, and replace the files by the copy some seconds later."""
        folder = self._system.data / "postgres"
        copy = folder.with_name("backup")
        with suspended(self._system.postgres_processes()):  # so that the copy is like the disk after a power failure
            subprocess.run(["cp", "--archive", folder, copy], check=True)
        (copy / "postmaster.pid").unlink(missing_ok=True)  # PostgreSQL may just start
        seconds = chance.uniform(1, 4)
        time.sleep(seconds)
        folder.rename(folder.with_name("replaced"))
        copy.rename(folder)
        for process in self._system.postgres_processes():
            with suppress(psutil.Error):
                process.kill()
        shutil.rmtree(folder.with_name("replaced"))
        return f"restore PostgreSQL as of {seconds:.1f} s before"

    def _note_loss(self) -> None:
        """Note the moment, and what the archive has."""
        moment = time.time()
        archived: set[str] = set()

        def read_archive() -> bool:
            with psycopg.connect(self._system.postgres_dsn, autocommit=True) as connection:
                rows = connection.execute("SELECT event_id FROM tickview.events").fetchall()
            archived.update(identity for (identity,) in rows)
            return True

        _wait_until(read_archive, "the archive is read")
        self._sent.losses.append(LossOfData(moment, archived))

    def _wait_for_listener(self) -> None:
        """Wait until a recorder listens again, and note the moment."""
        with self._system.redis.client() as client:
            _wait_until(
                lambda: (
                    self._system.redis.subscribers(CHANNEL) and client.exists("tickview:{heartbeats:pubsub}:moments")
                ),
                "a recorder listens again",
            )
        self._sent.listened_again = time.time()


def _wait_until(condition: Callable[[], Any], description: str) -> None:
    """Wait until a condition is true. A server that does not answer yet is no failure."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with suppress(*SERVER_ERRORS, psycopg.OperationalError):
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:g} s: {description}"
        time.sleep(0.05)
