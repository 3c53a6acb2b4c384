"""Alerts on real servers: a worker and an alerter in threads, and a real HTTP server that receives the alerts."""

import asyncio
import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple

import orjson
from redis import Redis

from domain.codec import decode
from domain.lists import PresetDraft
from domain.user_events import AlertEnded
from domain.workspace import Stamp, Workspace
from infra.alerting.alerter import Alerter, AlertOptions
from infra.alerts.addresses import AddressPolicy
from infra.alerts.deliveries import BackOff
from infra.alerts.queue import read_alert_status
from infra.alerts.signatures import format_secret, webhook_secret
from infra.log.directory import LogDirectory
from infra.log.event_log import EventLog
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.redis.connections import connect_async
from infra.user_keys.key_store import UserKeys
from infra.workspaces.repository import WorkspaceRepository
from projections.registry import READ_MODELS
from tests.events import new_events, pattern_detected
from tests.logs import open_directory
from tests.processes.roles import wait_until
from tests.threads import running_threads

LOG = "market-0"
OPERATOR = Stamp("operator root", 2.0)
PRESET, OTHER, SALT = "a" * 32, "b" * 32, "5a" * 16
PRIVATE = AddressPolicy(allows_private=True)
QUICK = BackOff(first=0.05, factor=2.0, longest=0.2, attempts=4)
"""Waits that a test can await."""

FOLDED = ("workspaces", "symbols", "universes")
"""The read models from which the alerter reads."""


class Request(NamedTuple):
    """A request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """The member ``data`` of the body."""
        return orjson.loads(self.body)["data"]

    @property
    def symbol(self) -> str:
        """The symbol of the pattern."""
        return str(self.data["pattern"]["symbol"])


class Receiver:
    """An HTTP server that keeps the requests. ``answer`` decides about the status of each answer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], int] = lambda _: 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.requests.append(request)
                self.send_response(receiver.answer(request))
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def symbols(self) -> list[str]:
        """Return the symbols of all requests, in order of arrival."""
        return [request.symbol for request in self.requests]

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Alerts:
    """One partition of the market, the log of the users, and the commands of a user."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.market, self.users = EventLog(redis, LOG), EventLog(redis, "users")
        self.workspaces = WorkspaceRepository(self.users, "http")

    def logs(self) -> LogDirectory:
        """Open the logs of a process."""
        return open_directory(self.redis, 1, "users")

    def command(self, command: Callable[[Workspace, Stamp], None], user: str = "alice") -> None:
        self.workspaces.execute(user, lambda workspace: command(workspace, Stamp(user, time.time())))

    def set_alert(self, webhook: str | None, user: str = "alice", preset: str = PRESET, **parameters: Any) -> None:
        """Create a preset with an alert."""
        self.command(
            lambda workspace, stamp: workspace.create_preset(
                stamp, preset, PresetDraft(f"preset {preset[:4]}", parameters, default=False)
            ),
            user,
        )
        self.command(lambda workspace, stamp: workspace.set_alert(stamp, preset, webhook, SALT), user)

    def secret(self, user: str = "alice", preset: str = PRESET) -> str:
        """Return the secret of a webhook, as the API returns it."""
        return format_secret(webhook_secret(UserKeys(self.users).read([user])[user], preset, SALT))

    def detect(self, *symbols: str, **fields: Any) -> None:
        """Record a detection of each symbol."""
        self.market.append(new_events([pattern_detected(symbol=symbol, **fields) for symbol in symbols]))

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Fold the read models from which the alerter reads."""
        projections = {name: READ_MODELS[name] for name in FOLDED}
        worker = Worker(self.redis, "worker", projections, self.logs(), WorkerOptions(lease_seconds=1, batch_size=100))
        with running_threads([worker.run]):
            yield

    @contextmanager
    def alerter(
        self, url: str, back_off: BackOff = QUICK, policy: AddressPolicy = PRIVATE, owner: str = "alerter"
    ) -> Iterator[None]:
        """Run an alerter."""
        stop = Event()
        options = AlertOptions(policy, lease_seconds=1, back_off=back_off)

        async def run() -> None:
            await Alerter(self.redis, connect_async(url), owner, self.logs(), options).run(stop)

        thread = Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def verify_signature(secret: str, request: Request) -> None:
    """Check a signature as the specification of Standard Webhooks describes, without code of TickView."""
    headers = request.headers
    key = b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), request.body))
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1"
    assert hmac.compare_digest(signature, b64encode(hmac.new(key, signed, sha256).digest()).decode())
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


def wait_for_requests(receiver: Receiver, number: int) -> None:
    """Wait until a receiver has got a number of requests."""
    wait_until(lambda: len(receiver.requests) >= number, f"{number} requests")


def ended(alerts: Alerts, user: str = "alice") -> list[AlertEnded]:
    """Return the audited ends of the deliveries of a user."""
    entries = UserKeys(alerts.users).reveal(alerts.users.read_stream(f"alerts-{user}"))
    events = [decode(entry.topic, entry.event_id, entry.state) for entry in entries]
    return [event for event in events if isinstance(event, AlertEnded)]


def wait_for_ends(alerts: Alerts, number: int) -> list[AlertEnded]:
    """Wait for a number of audited ends of alice's deliveries, and return them."""
    wait_until(lambda: len(ended(alerts)) >= number, f"{number} events about deliveries")
    return ended(alerts)


def waiting(alerts: Alerts) -> int:
    """Return the number of waiting deliveries."""
    return read_alert_status(alerts.redis, [LOG], time.time()).waiting
