"""The reaction to the errors of real servers, and the connections that leave a server which has become a replica."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from infra.log.handle import DEFAULT_LOG_OPTIONS
from infra.operations.server_status import redis_status
from infra.redis.connections import connect
from infra.redis.server_errors import SERVER_ERRORS, Reaction, ServerError, find_server_error
from tests import servers
from tests.clusters import cluster_node, form_cluster
from tests.processes.roles import wait_until
from tests.tcp_ports import free_port

BUSY_SCRIPT = "while true do end"


@pytest.fixture(params=["valkey", "redis"])
def client(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """Client of each supported server, which only this test uses."""
    if request.param == "valkey":
        with servers.valkey() as server, connect(server.connection_url, retries=0) as client:
            yield client
    else:
        with servers.redis_7_0() as url, connect(url, retries=0) as client:
            yield client


def reaction_to(operation: Callable[[], object]) -> Reaction | None:
    """Run an operation that fails, and return the reaction to its error."""
    found = error_of(operation)
    return found.reaction if found else None


def error_of(operation: Callable[[], object]) -> ServerError | None:
    """Run an operation that fails, and return its error as the table describes it."""
    with pytest.raises(RedisError) as raised:
        operation()
    return find_server_error(raised.value)


def wait_for_error(client: Redis, expected: ServerError) -> None:
    """Wait until the server answers reads with this error."""

    def is_met() -> bool:
        try:
            client.get("key")
        except RedisError as error:
            return find_server_error(error) == expected
        return False

    wait_until(is_met, expected.reason)


def test_each_error_of_a_server_has_its_reaction(client: Redis) -> None:
    def write() -> object:
        return client.set("key", "value")

    client.config_set("maxmemory", 1)
    assert reaction_to(write) is Reaction.REFUSE
    client.config_set("maxmemory", 0)

    client.config_set("min-replicas-to-write", 1)
    assert reaction_to(write) is Reaction.WAIT
    client.config_set("min-replicas-to-write", 0)

    client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+get"])
    client.execute_command("AUTH", "reader", "")
    assert reaction_to(write) is Reaction.REFUSE
    client.connection_pool.disconnect()

    client.rpush("list", "a")
    assert reaction_to(lambda: client.incr("list")) is Reaction.REFUSE
    client.set("text", "a")
    assert reaction_to(lambda: client.incr("text")) is None, "a defect"


def test_a_replica_without_its_primary_is_waited_for(client: Redis) -> None:
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", "1")
    assert error_of(lambda: client.get("key")) == SERVER_ERRORS["MASTERDOWN"]


def test_writes_without_a_disk_are_refused(client: Redis) -> None:
    (Path(client.config_get("dir")["dir"]) / "dump.rdb").mkdir()  # The snapshot cannot take the name of a folder.
    client.config_set("save", "1 1")
    client.set("key", "value")

    def has_failed() -> bool:
        return client.info("persistence")["rdb_last_bgsave_status"] == "err"

    wait_until(has_failed, "the server could not save")
    assert error_of(lambda: client.set("key", "value")) == SERVER_ERRORS["MISCONF"]
    status = redis_status(client, DEFAULT_LOG_OPTIONS)
    assert (status.up, status.warnings) == (
        True,
        ["cannot write to its disk and refuses writes: check the free space of its disk"],
    )
    client.config_set("save", "")  # The server would refuse to stop.


def test_a_server_that_loads_its_data_is_waited_for() -> None:
    options = {"enable-debug-command": "yes", "loading-process-events-interval-bytes": 1_024}
    with servers.valkey(**options) as server, connect(server.connection_url, retries=0) as client:
        client.mset({f"key-{number}": "value" for number in range(10_000)})
        client.config_set("key-load-delay", 1_000)
        with connect(server.connection_url) as other:
            reload = Thread(target=lambda: other.execute_command("DEBUG", "RELOAD"))
            reload.start()
            wait_for_error(client, SERVER_ERRORS["LOADING"])
            client.config_set("key-load-delay", 0)
            reload.join()


def test_a_cluster_that_is_down_or_moves_keys_is_waited_for() -> None:
    buses = [free_port() for _ in range(2)]
    with (
        servers.valkey(**cluster_node(buses[0])) as first,
        servers.valkey(**cluster_node(buses[1])) as second,
        connect(first.connection_url) as source,
        connect(second.connection_url) as target,
    ):
        assert error_of(lambda: source.set("key", "value")) == SERVER_ERRORS["CLUSTERDOWN"]
        form_cluster([source, target], [first.port, second.port], buses)
        source.set("{slot}present", "value")
        slot = source.execute_command("CLUSTER", "KEYSLOT", "{slot}")
        target_id = target.execute_command("CLUSTER", "MYID")
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        assert error_of(lambda: source.mget("{slot}present", "{slot}moved")) == SERVER_ERRORS["TRYAGAIN"]


def test_a_busy_server_is_waited_for(client: Redis) -> None:
    client.config_set("busy-reply-threshold", 1)

    def keep_busy() -> None:
        with pytest.raises(RedisError):
            client.eval(BUSY_SCRIPT, 0)

    thread = Thread(target=keep_busy)
    thread.start()

    wait_for_error(client, SERVER_ERRORS["BUSY"])
    client.script_kill()
    thread.join()


def test_all_connections_leave_a_server_that_has_become_a_replica(client: Redis) -> None:
    first, second = client.connection_pool.get_connection(), client.connection_pool.get_connection()
    for connection in (first, second):
        connection.send_command("PING")
        connection.read_response()
    client.replicaof("127.0.0.1", "1")
    sockets = first._sock, second._sock
    first.send_command("SET", "key", "value")
    with pytest.raises(RedisConnectionError):
        first.read_response()
    second.send_command("PING")
    second.read_response()
    assert (first._sock, second._sock is sockets[1]) == (None, False)
    before = client.info("stats")["total_connections_received"]
    client.connection_pool.get_connection().disconnect()
    assert client.info("stats")["total_connections_received"] == before + 1
