"""The reaction to the errors of real servers, and the connections that leave a server which has become a replica."""

from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from infra.redis.connections import connect
from infra.redis.server_errors import Reaction, find_server_error
from tests import servers
from tests.processes.roles import wait_until

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
    with pytest.raises(RedisError) as raised:
        operation()
    found = find_server_error(raised.value)
    return found.reaction if found else None


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


def test_a_busy_server_is_waited_for(client: Redis) -> None:
    client.config_set("busy-reply-threshold", 1)

    def keep_busy() -> None:
        with pytest.raises(RedisError):
            client.eval(BUSY_SCRIPT, 0)

    thread = Thread(target=keep_busy)
    thread.start()

    def is_busy() -> bool:
        try:
            client.get("key")
        except RedisError as error:
            found = find_server_error(error)
            return found is not None and found.reaction is Reaction.WAIT
        return False

    wait_until(is_busy, "the server refuses commands while the script runs")
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
