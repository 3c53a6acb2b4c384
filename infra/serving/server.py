"""``tickview serve``: gunicorn, with the API in each of its processes.

The API is built before the fork, so that the processes share its memory, and a replaced process starts at once.
"""

import os
import socket
import tempfile
from pathlib import Path
from shutil import rmtree

import structlog

from infra.access.exposure import check_exposure
from infra.processes.errors import StartupError
from infra.processes.logs import LIBRARY_LOGS, configure_logs
from infra.processes.memory import permanent_objects
from infra.read_models.row_queries import RedisRowQueries
from infra.serving.service import METRICS_FOLDER_VARIABLE, OpenStoredQueries, open_service
from infra.settings import Settings
from infra.web_server.gunicorn import Server
from infra.web_server.listeners import open_listeners
from readapi.http.mounting import MountedApplication

logger = structlog.get_logger()


def run_server(settings: Settings, open_queries: OpenStoredQueries = RedisRowQueries) -> None:
    """Serve the API until a signal ends the process.

    Args:
        settings: The settings of the service.
        open_queries: Creates the queries to a read model that answer while there is no replica.

    Raises:
        StartupError: Redis or the address cannot be used, or the address can be reached from other machines and no
            authentication is configured.
    """
    configure_logs(settings.log_level, "serve")
    check_exposure(settings)
    service = open_service(settings, open_queries)
    listeners = _listen(settings)
    metrics = _create_folder("metrics")
    os.environ[METRICS_FOLDER_VARIABLE] = metrics
    sessions = _create_folder("sessions")
    with permanent_objects():
        # Imported here, because prometheus_client reads the folder when it is imported.
        from infra.serving.app import build_app
        from infra.serving.metric_files import retire_process
        from infra.serving.socket_io import is_installed

        application = build_app(service, session_folder=Path(sessions))
    # This process answers no request. Its values, all zero, would be shown beside those of the API processes.
    retire_process(Path(metrics), os.getpid())

    def retire(process: int) -> None:
        """Merge the metrics of a process that has ended. A failure costs its metrics, and must not end the server."""
        try:
            retire_process(Path(metrics), process)
        except (OSError, ValueError) as error:
            logger.warning("metrics of an ended process lost", process=process, error=str(error))

    def remove_folders() -> None:
        for folder in (metrics, sessions):
            rmtree(folder, ignore_errors=True)

    options = {
        "bind": [f"fd://{listener.fileno()}" for listener in listeners],
        "workers": settings.api_processes,
        "proc_name": "tickview serve",
        "control_socket_disable": True,
        "child_exit": lambda _, worker: retire(worker.pid),
        "on_exit": lambda _: remove_folders(),
        "logconfig_dict": LIBRARY_LOGS,
        "loglevel": "warning",
    }
    logger.info("serving", address="http://{}:{}".format(*listeners[0].getsockname()), processes=settings.api_processes)
    # The dispatch to Socket.IO costs a call per request.
    Server(options, MountedApplication(application) if is_installed() else application).run()


def _create_folder(purpose: str) -> str:
    try:
        return tempfile.mkdtemp(prefix=f"tickview-{purpose}-")
    except OSError as error:
        raise StartupError(
            f"no temporary folder is writable ({error.strerror}): set TMPDIR to a folder for the {purpose}"
        ) from error


def _listen(settings: Settings) -> list[socket.socket]:
    try:
        return open_listeners(settings.host, settings.port, settings.api_processes)
    except OSError as error:
        raise StartupError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another address with --host "
            "and --port"
        ) from error
