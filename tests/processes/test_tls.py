"""Roles that connect to Redis and PostgreSQL over TLS with a user and a password from the URL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.certificates import Certificates, make_certificates
from tests.processes.api_service import detection, post, service
from tests.processes.roles import running_role, tickview, wait_until

USER, PASSWORD = "tickview", "s3cret"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def redis_address(certificates: Certificates) -> Iterator[str]:
    with servers.redis_over_tls(certificates, USER, PASSWORD) as address:
        yield address


def test_roles_connect_to_redis_over_tls_with_a_user(certificates: Certificates, redis_address: str) -> None:
    url = f"rediss://{USER}:{PASSWORD}@{redis_address}/0?ssl_ca_certs={certificates.authority}"
    with running_role("record", redis_url=url), service(url, wait_seconds=30) as client:
        header = post(client, [detection("TLS")])
        scan = client.get("/api/patterns/scan", params={"symbols": "TLS"}, headers=header)
        assert scan.json()["pagination"]["total"] == 1


def test_recorder_refuses_untrusted_certificates_and_wrong_users_of_redis(
    certificates: Certificates, redis_address: str, tmp_path: Path
) -> None:
    other_authority = make_certificates(tmp_path).authority
    urls = {
        "another authority": f"rediss://{USER}:{PASSWORD}@{redis_address}/0?ssl_ca_certs={other_authority}",
        "no authority": f"rediss://{USER}:{PASSWORD}@{redis_address}/0",
        "another password": f"rediss://{USER}:wrong@{redis_address}/0?ssl_ca_certs={certificates.authority}",
        "no user": f"rediss://{redis_address}/0?ssl_ca_certs={certificates.authority}",
    }
    for name, url in urls.items():
        refused = tickview("record", redis_url=url)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), (name, refused.stderr)
        assert PASSWORD not in refused.stderr.decode()


@pytest.mark.skipif(not servers.DEBIAN_POSTGRES_15.exists(), reason="the embedded PostgreSQL is built without TLS")
def test_roles_connect_to_postgresql_over_tls_with_a_user(redis_url: str, certificates: Certificates) -> None:
    with servers.postgres_over_tls(certificates, USER, PASSWORD) as address:
        base = f"postgresql://{USER}:{PASSWORD}@{address}/tickview"
        settings = {"postgres_dsn": f"{base}?sslmode=verify-full&sslrootcert={certificates.authority}"}
        with (
            running_role("archive", redis_url=redis_url, **settings),
            service(redis_url, wait_seconds=30, **settings) as client,
        ):
            post(client, [detection("TLS")])

            def is_archived() -> bool:
                events = client.get("/api/audit/streams/symbol-TLS").json()["events"]
                return bool(events[0]["hash"])

            wait_until(is_archived, "the event is archived")
        for refused_dsn in (f"{base}?sslmode=disable", f"{base}?sslmode=verify-full&sslrootcert=system"):
            refused = tickview("archive", redis_url=redis_url, postgres_dsn=refused_dsn)
            assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
            assert PASSWORD not in refused.stderr.decode()
