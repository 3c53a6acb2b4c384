"""Faults after which a server has less data than before: Redis is cut, wiped or failed over, PostgreSQL is restored."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import psycopg
from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.producers import CHANNEL
from tests.chaos.sent import Loss, Sent
from tests.chaos.system import System, suspended
from tests.integration.recovery_support import append_only_file

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

    @property
    def faults(self) -> list[Callable[[random.Random], str]]:
        """All faults. Each returns its description."""
        return [self.cut_valkey, self.wipe_valkey, self.fail_over, self.restore_postgres]

    def cut_valkey(self, chance: random.Random) -> str:
        """Kill Valkey, cut the end of its append-only file, and start it again."""
        self._system.valkey.terminate()
        file = append_only_file(self._system.valkey)
        size = file.stat().st_size
        lost = min(size // 2, chance.randrange(1, 200_000))
        with file.open("r+b") as stream:
            stream.truncate(size - lost)
        self._note_loss()
        self._system.valkey.start()
        self._wait_for_listener()
        return f"cut {lost} of {size} bytes of Valkey's file"

    def wipe_valkey(self, _chance: random.Random) -> str:
        """Kill Valkey, and start it again without data."""
        server = self._system.valkey
        server.terminate()
        shutil.rmtree(server.data_dir / "appendonlydir")
        for file in server.data_dir.glob("*.rdb"):
            file.unlink()
        self._note_loss()
        server.start()
        self._wait_for_listener()
        return "wipe Valkey"

    def fail_over(self, chance: random.Random) -> str:
        """Kill Valkey while its replica lags, and promote the replica."""
        former = self._system.valkey
        seconds = chance.uniform(0, 2)
        replica = self._system.add_replica()
        with Redis(port=replica.port) as client:
            _wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica has all data")
            client.execute_command("REPLICAOF", "127.0.0.1", 1)  # disconnects the replica from its primary server
            time.sleep(seconds)
            former.terminate()
            self._note_loss()
            client.execute_command("REPLICAOF", "NO", "ONE")
        self._system.switch_to(replica)
        self._wait_for_listener()
        return f"fail over to a replica that is {seconds:.1f} s behind"

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
        """Note that Valkey is dead, and what the archive has."""
        moment = time.time()
        archived: set[str] = set()

        def read_archive() -> bool:
            with psycopg.connect(self._system.postgres_dsn, autocommit=True) as connection:
                rows = connection.execute("SELECT event_id FROM tickview.events").fetchall()
            archived.update(identity for (identity,) in rows)
            return True

        _wait_until(read_archive, "the archive is read")
        self._sent.losses.append(Loss(moment, archived))

    def _wait_for_listener(self) -> None:
        """Wait until a recorder listens again, and note the moment."""
        with Redis(port=self._system.valkey.port) as client:
            _wait_until(
                lambda: client.pubsub_numsub(CHANNEL)[0][1] and client.exists("tickview:{heartbeats:pubsub}:moments"),
                "a recorder listens again",
            )
        self._sent.listened_again = time.time()


def _wait_until(condition: Callable[[], Any], description: str) -> None:
    """Wait until a condition is true. A server that does not answer yet is no failure."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with suppress(RedisError, psycopg.OperationalError):
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:g} s: {description}"
        time.sleep(0.05)
