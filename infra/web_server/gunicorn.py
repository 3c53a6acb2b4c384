"""gunicorn's processes as we run them: how each serves, and that each ends in order, whoever of them is told to.

gunicorn answers SIGINT, which Ctrl-C sends to all of them, with SIGQUIT for each process that serves. uvicorn's worker
passes that over, and it would be killed when its time is up.
"""

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from infra.web_server.uvicorn import HttpStream, WebSocketStream

STOP_SECONDS = 3
"""How long requests under way may take to end."""

KILL_SECONDS = STOP_SECONDS + 2
"""After which a process that was told to end is killed."""

LISTENERS = 16
"""Of a process on each socket.

libuv takes one new connection from a listener in each turn of the event loop, and a busy process's turns are long: of
250 clients that came together, the last would wait for a second or two."""

_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}


class ApiWorker(UvicornWorker):  # type: ignore[misc]
    """gunicorn's process with uvicorn in it, the fastest of those measured (``docs/performance.md``)."""

    CONFIG_KWARGS = {
        "loop": "uvloop",
        "http": HttpStream,
        "ws": WebSocketStream,
        # Each client's messages would have to be compressed for it alone.
        "ws_per_message_deflate": False,
        # What clients send is ignored.
        "ws_max_size": 65_536,
        "lifespan": "on",
        "server_header": False,
        "proxy_headers": False,
        "access_log": False,
        "timeout_graceful_shutdown": STOP_SECONDS,
    }

    def init_process(self) -> None:
        """As gunicorn, with so many listeners."""
        self.sockets: list[Any] = [*self.sockets, *(one.dup() for one in self.sockets for _ in range(LISTENERS - 1))]
        super().init_process()

    def init_signals(self) -> None:
        """As uvicorn's; and what came since the fork is heard now."""
        super().init_signals()
        for one in _ENDING - {signal.SIGTERM}:
            signal.signal(one, self.handle_exit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End as by SIGTERM: in order if it serves, at once if it does not yet."""
        del sig, frame
        signal.raise_signal(signal.SIGTERM)


class Master(Arbiter):  # type: ignore[misc]
    """gunicorn's process that starts the others."""

    def handle_hup(self) -> None:
        """End, as every role does when its terminal is closed; there is no file of settings to be read again."""
        self.handle_term()

    def spawn_worker(self) -> int:
        """As gunicorn; but a signal for the new process waits until that listens.

        Until then it has the master's handlers, which would keep the signal for a master that it is not.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            pid: int = super().spawn_worker()
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with these settings, around the application that ``load`` makes in each process."""

    def __init__(self, options: Mapping[str, Any], load: Callable[[], Any]) -> None:
        self._options = {"worker_class": ApiWorker, "graceful_timeout": KILL_SECONDS, **options}
        self._load = load
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Called by gunicorn in each process."""
        return self._load()

    def run(self) -> None:
        """Until a signal ends it."""
        Master(self).run()
