"""A PostgreSQL server with a streaming standby, for tests of lag and failover."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.embedded.postgres import find_programs, run_postgres, start_postgres
from infra.processes.supervisor import Supervisor, user_arguments
from tests.servers import ignore_report, world_readable_folder


class PostgresPair(NamedTuple):
    """An embedded PostgreSQL with a streaming standby."""

    primary: str
    """The DSN of the database ``postgres`` on the primary server."""
    standby_folder: str
    """The folder of the standby's socket."""
    lose_primary: Callable[[], None]
    """Kills the primary server, as the loss of its machine would."""

    def on_standby(self, dsn: str) -> str:
        """Return the DSN of the same database on the standby."""
        return make_conninfo(dsn, host=self.standby_folder)

    def on_both(self, dsn: str) -> str:
        """Return the DSN that names both servers, the standby first."""
        return make_conninfo(dsn, host=f"{self.standby_folder},{conninfo_to_dict(dsn)['host']}")

    def promote(self) -> None:
        """Promote the standby, and wait until it can be written."""
        self._execute_on_standby("SELECT pg_promote()")

    def pause_replay(self) -> None:
        """Let the standby lag from now on."""
        self._execute_on_standby("SELECT pg_wal_replay_pause()")
        self._wait_on_standby("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    def resume_replay(self) -> None:
        """Let the standby catch up, and wait until it has what the primary server has now."""
        self._execute_on_standby("SELECT pg_wal_replay_resume()")
        with psycopg.connect(self.primary, autocommit=True) as connection:
            [[written]] = connection.execute("SELECT pg_current_wal_lsn()::text")
        self._wait_on_standby("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written)

    def _wait_on_standby(self, condition: LiteralString, *values: Any) -> None:
        deadline = time.monotonic() + 30
        while not self._execute_on_standby(condition, *values):
            assert time.monotonic() < deadline, f"the standby is not as it should be: {condition}"
            time.sleep(0.01)

    def _execute_on_standby(self, statement: LiteralString, *values: Any) -> Any:
        with psycopg.connect(self.on_standby(self.primary), autocommit=True) as connection:
            [[result]] = connection.execute(statement, values)
        return result


@contextmanager
def postgres_pair() -> Iterator[PostgresPair]:
    """Run an embedded PostgreSQL and a streaming standby of it."""
    losing = Event()
    with (
        world_readable_folder() as first,
        world_readable_folder() as second,
        Supervisor(ignore_report, losing) as primary_supervisor,
        Supervisor(ignore_report, Event()) as supervisor,
    ):
        dsn = start_postgres(primary_supervisor, first)
        binaries, account = find_programs(first / "postgres")
        source = ["-h", str(conninfo_to_dict(dsn)["host"]), "-U", "postgres"]
        copy = [binaries / "pg_basebackup", *source, "-D", second / "postgres", "-R", "--checkpoint=fast", "--no-sync"]
        shutil.chown(second, account or os.geteuid())
        subprocess.run(copy, check=True, stderr=subprocess.DEVNULL, cwd="/", **user_arguments(account))
        # The backup includes the lock of the socket, which is in the folder of the data.
        (second / "postgres" / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        standby = run_postgres(supervisor, second, binaries, account)
        pid = int((first / "postgres" / "postmaster.pid").read_text().split()[0])

        def lose_primary() -> None:
            losing.set()
            os.kill(pid, signal.SIGKILL)

        yield PostgresPair(dsn, str(conninfo_to_dict(standby)["host"]), lose_primary)
