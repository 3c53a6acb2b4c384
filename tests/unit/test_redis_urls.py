"""URLs of Redis: of one server, of a cluster, and of the primary server that Sentinels name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.redis.connections import connect
from infra.settings.redis_urls import Host, parse_redis_url
from infra.settings.urls import without_password


def test_a_cluster_has_several_nodes_and_one_user() -> None:
    url = "rediss+cluster://user:p%2Fss@node-1:7000,[::1]:7001,node-3?ssl_ca_certs=/etc/ca.pem"
    parts = parse_redis_url(url)
    assert parts.kind == "cluster"
    assert parts.hosts == (Host("node-1", 7000), Host("::1", 7001), Host("node-3", 6379))
    assert parts.server_url == "rediss://user:p%2Fss@node-1:7000/0?ssl_ca_certs=%2Fetc%2Fca.pem"
    assert parts.uses_tls
    assert without_password(url) == "rediss+cluster://…@node-1:7000,[::1]:7001,node-3?ssl_ca_certs=/etc/ca.pem"


def test_sentinels_name_the_server_of_a_service() -> None:
    url = "redis+sentinel://user:pass@one:26379,two/trading/3?sentinel_username=watch&sentinel_password=secret"
    parts = parse_redis_url(url)
    assert (parts.kind, parts.service, parts.uses_tls) == ("sentinel", "trading", False)
    assert parts.hosts == (Host("one", 26379), Host("two", 26379))
    assert parts.server_url == "redis://user:pass@one:26379/3"
    assert parts.sentinel_user == (("username", "watch"), ("password", "secret"))
    assert "secret" not in without_password(url)
    options = connect(url).connection_pool.connection_kwargs
    assert {name: options[name] for name in ("username", "password", "db")} == {
        "username": "user",
        "password": "pass",
        "db": 3,
    }


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3cret", "must begin with redis://"),
        ("redis+clusters://s3cret@node", "must begin with redis://"),
        ("unix+cluster://s3cret@node", "must begin with redis://"),
        ("redis+cluster://user:s3cret@", "not a valid URL"),
        ("redis+cluster://user:s3cret@node,,node", "not a valid URL"),
        ("redis+cluster://user:s3cret@node:70000", "not a valid URL"),
        ("redis+cluster://user:s3cret@node:0", "not a valid URL"),
        ("redis+cluster://user:s3cret@node:port", "not a valid URL"),
        ("redis+cluster://user:s3/cret@node:7000", "not a valid URL"),
        ("redis+cluster://user:s3?cret@node:7000", "not a valid URL"),
        ("redis+cluster://user:s3cret@node?unknown=1", "not a valid URL"),
        ("redis+cluster://user:s3cret@node/1", "a cluster has the database 0 alone"),
        ("redis+cluster://user:s3cret@node?sentinel_password=1", "names no Sentinels"),
        ("redis+sentinel://user:s3cret@node", "must have the name of the service"),
        ("redis+sentinel://user:s3cret@node/0/service", "must have the name of the service"),
        ("redis+sentinel://user:s3cret@node/service/0/1", "must have the name of the service"),
        ("redis+sentinel://user:s3cret@node/service/first", "must have a database number"),
        ("redis+sentinel://12/s3cret@node/0", "not a valid URL"),
    ],
)
def test_an_invalid_url_is_refused_without_its_value(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse_redis_url(url)
    assert "s3cret" not in str(refused.value)
    assert "node" not in str(refused.value)


REASONS = ("is not a valid URL", "must have", "has a user or a password for Sentinels")


def refusal_of(url: str) -> str:
    """Return why a URL is refused. Empty: it is valid."""
    try:
        parse_redis_url(url)
    except ValueError as error:
        return str(error)
    return ""


@given(st.sampled_from(["redis", "redis+cluster", "rediss+sentinel"]), st.text())
def test_any_text_is_accepted_or_refused_with_a_reason(scheme: str, rest: str) -> None:
    refusal = refusal_of(f"{scheme}://{rest}")
    assert not refusal or refusal.startswith(REASONS)
