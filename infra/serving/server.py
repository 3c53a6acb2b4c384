"""``tickview serve``: gunicorn, with the API in each of its processes."""

import os
import socket
import tempfile
from shutil import rmtree

import structlog

from infra.access.open_guard import check_exposure, open_guard
from infra.composition import open_dead_letters, open_market_logs, open_recorder, open_stores
from infra.log.partitions import log_names
from infra.processes.errors import StartupError
from infra.processes.logs import LIBRARY_LOGS, configure_logs
from infra.read_models.pattern_queries import RedisPatternQueries
from infra.serving.app import METRICS_FOLDER, OpenPatterns, build_app
from infra.settings import Settings
from infra.web_server.gunicorn import Server

logger = structlog.get_logger()


def run_server(settings: Settings, open_patterns: OpenPatterns = RedisPatternQueries) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartupError where Redis or the address cannot be used."""
    configure_logs(settings.log_level, "serve")
    check_exposure(settings)
    guard = open_guard(settings)
    stores = open_stores(settings)
    # Made once and before the processes are, so that one that gunicorn replaces while Redis is away starts too.
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    logs = log_names(stores.redis)
    listener = _listen(settings)
    metrics = tempfile.mkdtemp(prefix="tickview-metrics-")
    os.environ[METRICS_FOLDER] = metrics
    options = {
        "bind": f"fd://{listener.fileno()}",
        "workers": settings.api_processes,
        "proc_name": "tickview serve",
        "control_socket_disable": True,
        "on_exit": lambda _: rmtree(metrics, ignore_errors=True),
        "logconfig_dict": LIBRARY_LOGS,
        "loglevel": "warning",
    }
    logger.info("serving", address="http://{}:{}".format(*listener.getsockname()), processes=settings.api_processes)
    Server(options, lambda: build_app(stores, guard, recorder, logs, open_patterns)).run()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise StartupError(
            f"cannot listen on {address}: {error.strerror}; choose another with --host, --port"
        ) from error
