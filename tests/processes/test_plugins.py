"""The plug-in of ``docs/plugins.md``: its wheel installed beside that of TickView, with real roles.

The files and the commands come from the page. The roles share one Valkey and one PostgreSQL.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
from redis import Redis

from infra.redis.connections import connect
from projections.activity import Activity
from tests import servers
from tests.plain_http import PLAIN_HTTP
from tests.processes.installation import OFFLINE, build_wheel, new_environment
from tests.processes.plugin_installation import Installation, commands_of, files_of_the_page, run_commands
from tests.processes.push_clients import receive, receive_changes, websocket
from tests.processes.roles import wait_until
from tests.tcp_ports import free_port

CHANNEL = "exchange.halts"

ROLES = ("record", "project", "archive", "serve")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """The plug-in, written, built and installed as the page says."""
    with servers.world_readable_folder() as folder:
        environment = new_environment(folder / "environment", build_wheel(folder))
        source = folder / "plugin"
        for path, content in files_of_the_page().items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(content)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TICKVIEW_", "PYTHON"))}
        path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        installation = Installation(environment, source, {**inherited, **OFFLINE, "PATH": path})
        run_commands(installation, "The package")
        run_commands(installation, "The events")
        run_commands(installation, "Install it")
        yield installation


@dataclass(frozen=True)
class Service:
    """All roles with the plug-in, and clients of their servers."""

    installation: Installation
    redis: Redis
    api: httpx.Client

    def rows(self, build: str) -> dict[str, Any]:
        """Return the rows of a build of the read model ``halts``, from all partitions."""
        keys = [f"tickview:{{halts/market-{partition}}}:{build}:rows" for partition in range(4)]
        hashes = [self.redis.hgetall(key) for key in keys]
        return {key.decode(): orjson.loads(row) for rows in hashes for key, row in rows.items()}

    def status(self) -> Any:
        """Return the status of the read model ``halts``."""
        models = self.installation.tickview("projections")["projections"]
        return next(model for model in models if model["name"] == "halts")

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of a successful response."""
        response = self.api.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def service(installation: Installation, postgres_18_dsn: str) -> Iterator[Service]:
    port = free_port()
    with ExitStack() as stack:
        url = stack.enter_context(servers.valkey()).connection_url
        dsn = stack.enter_context(servers.new_database(postgres_18_dsn))
        variables = {"TICKVIEW_REDIS_URL": url, "TICKVIEW_POSTGRES_DSN": dsn, "TICKVIEW_PORT": str(port)}
        installed = installation.with_variables(**variables, TICKVIEW_API_PROCESSES="1")
        for role in ROLES:
            stack.enter_context(installed.running(role))
        redis = stack.enter_context(connect(url))
        api = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP))
        wait_until(lambda: redis.pubsub_numsub(CHANNEL)[0][1], "the recorder listens to the channel of the plug-in")
        wait_until(lambda: redis.exists("tickview:{halts}:versions"), "a worker has begun the read model")
        wait_until(lambda: responds(api), "the API answers")
        yield Service(installed, redis, api)


def responds(api: httpx.Client) -> bool:
    try:
        return api.get("/api/health").status_code == 200
    except httpx.TransportError:
        return False


def halted(symbol: str, **fields: Any) -> dict[str, Any]:
    """Build the message that announces a halt."""
    return {"event_type": "trading_halted", "source": "exchange", "symbol": symbol, "reason": "news", **fields}


def test_the_page_has_files_and_commands() -> None:
    assert files_of_the_page().keys() == {
        "pyproject.toml",
        "halts/events.py",
        "halts/channel.py",
        "halts/read_model.py",
    }
    headings = ("The package", "The events", "Install it", "Use it", "What TickView refuses")
    assert [len(commands_of(heading)) for heading in headings] == [1, 2, 2, 4, 1]


def test_messages_of_pubsub_are_recorded_folded_archived_and_counted(service: Service) -> None:
    message = halted("PUBSUB", event_id="halt-1", timestamp=1_757_000_000.0, venue="XNAS")
    service.redis.publish(CHANNEL, orjson.dumps(message))
    wait_until(lambda: "PUBSUB" in service.rows("1.1"), "the event is folded")
    row = service.rows("1.1")["PUBSUB"]
    assert {"symbol": "PUBSUB", "reason": "news", "since": 1_757_000_000.0}.items() <= row.items()
    [event] = wait_until(lambda: archived_events(service, "symbol-PUBSUB"), "the event is archived")
    assert (event["type"], event["event_id"], event["data"]["extra"]) == ("TradingHalted", "halt-1", {"venue": "XNAS"})
    keys = [f"tickview:{{activity/market-{partition}}}:{Activity.version}.1:rows" for partition in range(4)]
    counted = "2025-09-04/TradingHalted/exchange"
    wait_until(lambda: any(service.redis.hexists(key, counted) for key in keys), "activity counts the event")
    assert service.installation.tickview("history", "symbol-PUBSUB")["events"][0]["hash"] == event["hash"]
    service.redis.publish(CHANNEL, orjson.dumps({"event_type": "trading_resumed", "symbol": "PUBSUB"}))
    wait_until(lambda: "PUBSUB" not in service.rows("1.1"), "the halt has ended")


def archived_events(service: Service, stream: str) -> list[Any]:
    """Return the events of a stream if the archive has them."""
    events: list[Any] = service.get("/api/audit/events", stream=stream)["events"]
    return [event for event in events if event["hash"]]


def test_messages_are_accepted_over_http(service: Service) -> None:
    response = service.api.post("/api/events", json=[halted("HTTP"), {"channel": CHANNEL, "payload": halted("HTTP2")}])
    assert response.status_code == 201, response.text
    assert [event["type"] for event in response.json()["events"]] == ["TradingHalted"] * 2
    wait_until(lambda: {"HTTP", "HTTP2"} <= service.rows("1.1").keys(), "the events are folded")


def test_unreadable_messages_become_dead_letters_with_the_reason(service: Service) -> None:
    service.redis.publish(CHANNEL, b'{"event_type": "trading_halted", "symbol": "UNREADABLE"}')

    def letters() -> list[Any]:
        stored = service.get("/api/dead-letters")["dead_letters"]
        return [letter for letter in stored if letter["channel"] == CHANNEL]

    [letter] = wait_until(letters, "the dead letter is stored")
    assert (letter["code"], letter["reason"]) == ("missing-field", "reason is missing or empty: the field is required")


@pytest.fixture(scope="module")
def halts_of_two_symbols(service: Service) -> dict[str, str]:
    """Publish two halts. Return the header of a request whose answer includes them."""
    messages = [
        halted("BRK.B", timestamp=1_757_000_000.0),
        halted("TSLA", reason="volatility", timestamp=1_757_000_060.0),
    ]
    response = service.api.post("/api/events", json=messages)
    assert response.status_code == 201, response.text
    return {"TickView-Min-Position": response.headers["TickView-Position"]}


def test_the_read_model_is_served(service: Service, halts_of_two_symbols: dict[str, str]) -> None:
    def get(path: str) -> Any:
        response = service.api.get(f"/api/read-models{path}", headers=halts_of_two_symbols)
        assert response.status_code == 200, response.text
        return response.json()

    listed = {model["name"]: model for model in get("")["read_models"]}
    assert (listed["halts"]["key"], listed["halts"]["sorts"]) == ("symbol", ["symbol", "since"])
    assert {"symbol", "reason", "since_min", "since_max"} <= set(listed["halts"]["filters"])
    rows = get("/halts?symbol=BRK.B,TSLA&since_min=1757000000&sort_by=symbol&sort_order=desc")["rows"]
    assert [(row["symbol"], row["reason"]) for row in rows] == [("TSLA", "volatility"), ("BRK.B", "news")]
    assert get("/halts/BRK.B")["row"]["since"] == 1_757_000_000.0
    assert get("/halts/counts/by_reason")["counts"]["volatility"] == 1
    refused = service.api.get("/api/read-models/halts?reasons=news")
    assert (refused.status_code, "known: " in refused.json()["detail"]) == (400, True)


def test_the_read_model_has_a_schema_of_its_own(service: Service) -> None:
    document = service.get("/openapi.json")
    operation = document["paths"]["/api/read-models/halts"]["get"]
    assert {"symbol", "reason", "since_min", "since_max"} <= {each["name"] for each in operation["parameters"]}
    row = document["components"]["schemas"]["HaltsRow"]
    assert row["properties"]["since"]["description"].startswith("Time of the halt.")


def test_the_read_model_is_queried_by_the_command(service: Service, halts_of_two_symbols: dict[str, str]) -> None:
    # The command does not wait for positions.
    assert service.api.get("/api/read-models/halts", headers=halts_of_two_symbols).status_code == 200
    rows = service.installation.tickview("query", "halts", "symbol=BRK.B,TSLA", "--sort", "-since")["rows"]
    assert [row["symbol"] for row in rows] == ["TSLA", "BRK.B"]


def test_the_read_model_is_pushed(service: Service) -> None:
    with (
        websocket(service.api, "/ws?topics=halts&symbol=PUSHED") as connection,
        service.api.stream("GET", "/api/stream", params={"topics": "halts", "symbol": "PUSHED"}) as events,
    ):
        lines = events.iter_lines()
        assert receive(connection)["type"] == "ready"
        assert next(lines) == "event: ready"
        for message in (halted("OTHER"), halted("PUSHED", reason="audit")):
            service.redis.publish(CHANNEL, orjson.dumps(message))
        [change] = receive_changes(connection)["changes"]
        assert (change["op"], change["row"]["symbol"], change["row"]["reason"]) == ("set", "PUSHED", "audit")
        sent = next(line for line in lines if line.startswith('data: {"type":"changes"'))
        assert orjson.loads(sent.removeprefix("data: "))["changes"] == [change]
        service.redis.publish(CHANNEL, orjson.dumps({"event_type": "trading_resumed", "symbol": "PUSHED"}))
        assert receive_changes(connection)["changes"] == [{"op": "remove", "id": "PUSHED"}]


def test_the_commands_of_the_page_replay_verify_and_roll_back(service: Service) -> None:
    run_commands(service.installation, "Use it")
    wait_until(lambda: "AAPL" in service.rows("1.1"), "the event is folded")
    status = service.status()
    assert (status["version"], status["live"], status["previous"], status["parked_keys"]) == (1, "1.1", "1.2", 0)
    wait_until(lambda: service.rows("1.1") == service.rows("1.2"), "both builds are current")
    assert "halts" in {model["name"] for model in service.get("/api/projections")["projections"]}
    wait_until(lambda: build_of(service) == "1.1", "the API follows the rollback")


def build_of(service: Service) -> str:
    """Return the build from which the API answers."""
    build: str = service.get("/api/read-models/halts")["cache_info"]["build"]
    return build


def test_modules_of_the_setting_are_loaded_beside_the_package(service: Service) -> None:
    module = service.installation.source / "more" / "more_halts.py"
    module.parent.mkdir()
    copy = files_of_the_page()["halts/read_model.py"].replace('name = "halts"', 'name = "more_halts"')
    module.write_text(copy)
    both = service.installation.with_variables(
        TICKVIEW_PLUGINS="more_halts, halts.events", PYTHONPATH=str(module.parent)
    )
    names = {model["name"] for model in both.tickview("projections")["projections"]}
    assert {"patterns", "halts", "more_halts"} <= names


def test_a_refused_plugin_ends_a_command_with_the_line_of_the_page(service: Service) -> None:
    [(command, output)] = commands_of("What TickView refuses")
    refused = service.installation.run(command)
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", output)
