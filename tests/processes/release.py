"""Workers, APIs and commands of the current and of the next release, as processes.

Release ``1`` is the present code. Release ``2`` rounds the confidences of ``patterns`` to one decimal, and is the next
version. With ``former``, release ``2`` also contains the present projection and keeps its builds current.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

import httpx

from infra import cli
from infra.composition import open_market_logs, open_stores
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.stop_signals import stop_on_signals
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.settings import Settings
from projections.patterns import ActivePatterns, Handled, PatternRow
from projections.registry import READ_MODELS
from projections.versions import Build
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import LIMITS, TIMEOUT_SECONDS, api_responds
from tests.processes.fork_server import ForkedProcess
from tests.processes.roles import environment_of, run_to_end, stop, wait_until
from tests.tcp_ports import free_port

PRESENT_VERSION = ActivePatterns.version
NEXT_VERSION = PRESENT_VERSION + 1
FIRST_BUILD = Build(PRESENT_VERSION, 1)
"""The build with which release ``1`` begins."""
SECOND_BUILD = Build(PRESENT_VERSION, 2)
"""The build with which release ``1`` replays."""
NEXT_BUILD = Build(NEXT_VERSION, 2)
"""The build with which release ``2`` follows the first build of release ``1``."""
REPLAYED_NEXT_BUILD = Build(NEXT_VERSION, 3)
"""The build with which release ``2`` replays after that."""


class RoundedPatterns(ActivePatterns):
    """Active patterns with rounded confidences."""

    version = NEXT_VERSION

    def evolve(self, row: PatternRow | None, event: Handled) -> PatternRow | None:
        """Evolve as the present version does, then round the confidence to one decimal."""
        evolved = super().evolve(row, event)
        return (
            evolved if evolved is row or evolved is None else replace(evolved, confidence=round(evolved.confidence, 1))
        )


class ChangedPatterns(ActivePatterns):
    """Active patterns with a changed ``evolve`` under the present version number."""

    def evolve(self, row: PatternRow | None, event: Handled) -> PatternRow | None:
        """Evolve as the present version does, but never remove a row."""
        return super().evolve(row, event) or row


RELEASES = {"1": ActivePatterns, "2": RoundedPatterns, "changed": ChangedPatterns}


def main() -> None:
    """Run a worker until SIGTERM. The arguments are the release and, optionally, ``former``."""
    settings = Settings()
    configure_logs("warning", "release " + sys.argv[1])
    stores = open_stores(settings)
    Worker(
        stores.redis,
        process_name(),
        {"patterns": RELEASES[sys.argv[1]]()},
        open_market_logs(stores),
        WorkerOptions(settings.lease_seconds, settings.fold_batch, settings.replay_throttle),
        former=[ActivePatterns()] if "former" in sys.argv else [],
    ).run(stop_on_signals())


def start_release(*release: str, redis_url: str, log: IO[bytes] | None = None, **settings: Any) -> ForkedProcess:
    """Start a worker of a release. The names of settings are without ``TICKVIEW_``."""
    files = {} if log is None else {2: log}
    return ForkedProcess(main, release, environment_of(redis_url, settings), files)


@contextmanager
def running_release(*release: str, redis_url: str, **settings: Any) -> Iterator[ForkedProcess]:
    """Run a worker of a release until the context ends."""
    process = start_release(*release, redis_url=redis_url, **settings)
    try:
        yield process
    finally:
        stop(process)


def command_main() -> None:
    """Run a command of ``tickview``. The arguments are the release and the arguments of the command."""
    READ_MODELS["patterns"] = RELEASES[sys.argv.pop(1)]()
    cli.main()


def tickview_of(release: str, *arguments: str, redis_url: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command of a release to its end."""
    return run_to_end(command_main, (release, *arguments), environment_of(redis_url, settings))


@contextmanager
def api_of(release: str, *, redis_url: str, **settings: Any) -> Iterator[httpx.Client]:
    """Run ``tickview serve`` of a release until the context ends. Yield a client of the API."""
    port = free_port()
    process = ForkedProcess(
        command_main, (release, "serve", "--port", str(port)), environment_of(redis_url, settings), {}
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS, limits=LIMITS, verify=PLAIN_HTTP
        ) as client:
            wait_until(lambda: api_responds(client), "the API answers")
            yield client
    finally:
        stop(process)
