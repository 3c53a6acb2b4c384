"""gunicorn with uvicorn in each of its processes, and an orderly end on every signal.

gunicorn answers SIGINT, which Ctrl-C sends to all processes, with SIGQUIT to each worker process. uvicorn-worker
handles SIGQUIT with a flag that uvicorn does not read, so that the worker would serve on until it is killed.
``ApiWorker`` therefore handles every stop signal as SIGTERM.
"""

import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from infra.web_server.uvicorn import PROTOCOL_OPTIONS

STOP_SECONDS = 3
"""Seconds that requests under way may take when a process stops."""

KILL_SECONDS = STOP_SECONDS + 2
"""Seconds after which a process that does not stop is killed."""

IDLE_SECONDS = 75
"""Seconds after which an idle connection is closed.

Clients and proxies keep idle connections for up to 60 seconds. If the server closes one of them first, it may do so at
the moment at which the client sends its next request, which then gets no response.
"""

LISTENERS = 16
"""Number of listeners of one process on each socket.

libuv accepts one connection per listener in each turn of the event loop, and the turns of a busy process are long. With
one listener, the last of 250 clients that connect at the same time would wait for one or two seconds."""

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}


class ApiWorker(UvicornWorker):  # type: ignore[misc]
    """A worker process: gunicorn's process with uvicorn in it, the fastest combination in ``docs/performance.md``."""

    CONFIG_KWARGS = {
        **PROTOCOL_OPTIONS,
        # The service ignores the messages of WebSocket clients.
        "ws_max_size": 65_536,
        "lifespan": "on",
        "server_header": False,
        "proxy_headers": False,
        "access_log": False,
        "timeout_graceful_shutdown": STOP_SECONDS,
    }

    socket_number = 0
    """Which of the sockets the process listens on. Processes with equal numbers share a socket."""

    def init_process(self) -> None:
        """Choose the socket and duplicate it, then start the process as gunicorn does."""
        listener = self.sockets[self.socket_number]
        # A socket is open as long as any process has it. Connections must not wait on it for a worker that has ended.
        for other in self.sockets:
            if other is not listener:
                other.close()
        self.sockets: list[Any] = [listener, *(listener.dup() for _ in range(LISTENERS - 1))]
        super().init_process()

    def init_signals(self) -> None:
        """Install the signal handlers, then unblock the signals that ``ApiArbiter.spawn_worker`` has blocked."""
        super().init_signals()
        for number in _STOP_SIGNALS - {signal.SIGTERM}:
            signal.signal(number, self.handle_exit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal as SIGTERM: stop in order if uvicorn runs, at once if it does not run yet."""
        del sig, frame
        signal.raise_signal(signal.SIGTERM)


class ApiArbiter(Arbiter):  # type: ignore[misc]
    """The main process of gunicorn, which starts and replaces the workers."""

    def handle_hup(self) -> None:
        """Stop on SIGHUP, as every role does when its terminal closes. There is no configuration to reload."""
        self.handle_term()

    def spawn_worker(self) -> int:
        """Fork a worker process, with the stop signals blocked until the worker has its own handlers.

        A forked process has the handlers of the arbiter. They would put a signal into the arbiter's queue, which the
        worker never reads.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            pid: int = super().spawn_worker()
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _choose_socket(arbiter: Arbiter, worker: ApiWorker) -> None:
    """Give a new worker the socket on which the fewest workers listen: that of the worker which it replaces."""
    numbers = [other.socket_number for other in arbiter.WORKERS.values()]
    worker.socket_number = min(range(len(arbiter.LISTENERS)), key=numbers.count)


class Server(BaseApplication):  # type: ignore[misc]
    """The web server.

    Args:
        options: Settings of gunicorn.
        application: The ASGI application. All worker processes have it by the fork.
    """

    def __init__(self, options: Mapping[str, Any], application: Any) -> None:
        own = {
            "worker_class": ApiWorker,
            "graceful_timeout": KILL_SECONDS,
            "keepalive": IDLE_SECONDS,
            "pre_fork": _choose_socket,
        }
        self._options = {**own, **options}
        self._application = application
        super().__init__()

    def load_config(self) -> None:
        """Pass the settings on to gunicorn."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application to gunicorn, which calls this method in each worker process."""
        return self._application

    def run(self) -> None:
        """Serve until a signal ends the process."""
        ApiArbiter(self).run()
