"""Clusters and Sentinels over TLS, with a user and a password from the URL."""

import asyncio
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from infra.log.event_log import EventLog
from infra.redis.connections import CONNECTION_ERRORS, connect, connect_async
from tests import servers
from tests.certificates import Certificates, make_certificates
from tests.clusters import SERVICE, form_cluster
from tests.events import opaque_event
from tests.tcp_ports import free_port

USER, PASSWORD = "tickview", "s3cret"
ACCESS = f"{USER}:{PASSWORD}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def cluster_address(certificates: Certificates) -> Iterator[str]:
    """Host and port of a cluster of one node."""
    bus = free_port()
    config = {"cluster-enabled": "yes", "cluster-port": bus, "tls-cluster": "yes"}
    with servers.redis_over_tls(certificates, USER, PASSWORD, **config) as address:
        url = f"rediss://{ACCESS}@{address}?ssl_ca_certs={certificates.authority}"
        with Redis.from_url(url) as node:
            form_cluster([node], [int(address.rpartition(":")[2])], [bus])
        yield address


@pytest.fixture(scope="module")
def sentinel_address(certificates: Certificates) -> Iterator[str]:
    """Host and port of a Sentinel, which watches a server."""
    with (
        servers.redis_over_tls(certificates, USER, PASSWORD) as address,
        servers.sentinel_over_tls(certificates, USER, PASSWORD, SERVICE, address) as sentinel,
    ):
        yield sentinel


@pytest.fixture(params=["cluster", "sentinel"])
def url(request: pytest.FixtureRequest, certificates: Certificates) -> str:
    """A URL with the right user, password and certificate authority."""
    address = request.getfixturevalue(f"{request.param}_address")
    if request.param == "cluster":
        return f"rediss+cluster://{ACCESS}@{address}?ssl_ca_certs={certificates.authority}"
    sentinel_user = f"sentinel_username={USER}&sentinel_password={PASSWORD}"
    return f"rediss+sentinel://{ACCESS}@{address}/{SERVICE}?ssl_ca_certs={certificates.authority}&{sentinel_user}"


def test_clients_connect_over_tls_with_a_user(url: str) -> None:
    with connect(url) as client:
        before = EventLog(client, "tls").head()
        [appended] = EventLog(client, "tls").append([opaque_event()])
        assert appended.position == before + 1
        client.set("key", "value")

    async def read() -> object:
        reader = connect_async(url)
        try:
            return await reader.get("key")
        finally:
            await reader.aclose()

    assert asyncio.run(read()) == b"value"


def test_a_wrong_password_or_authority_is_refused(url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_certificates(tmp_path_factory.mktemp("others")).authority
    with connect(url.replace(f"{ACCESS}@", f"{USER}:wrong@"), retries=0) as client:
        with pytest.raises(AuthenticationError) as refused:
            client.get("key")
        assert PASSWORD not in str(refused.value)
    with (
        connect(f"{url.partition('?')[0]}?ssl_ca_certs={other}", retries=0) as client,
        pytest.raises(CONNECTION_ERRORS),
    ):
        client.get("key")
