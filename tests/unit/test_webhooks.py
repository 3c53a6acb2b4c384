"""Requests to webhooks: the addresses that they may reach, their signatures, and the waits between attempts."""

import asyncio
import re
import socket
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.alerts import addresses
from infra.alerts.addresses import AddressError, AddressPolicy, is_public
from infra.alerts.deliveries import BackOff
from infra.alerts.signatures import format_secret, signed_headers, webhook_secret
from infra.alerts.webhook_client import Answer, WebhookClient
from infra.user_keys.encryption import UserKey

PUBLIC, PRIVATE = AddressPolicy(), AddressPolicy(allows_private=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111"])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "fe80::1", "fe80::1%lo"),
        *("fc00::1", "fd12::1", "ff02::1", "ff0e::1", "2002:7f00:1::1", "2001::1", "2001:db8::1"),
    ],
)
def test_no_other_address_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://example.com/",
            "ftp://example.com/",
            "//example.com/",
            "example.com",
            "https://",
            "https:///path",
            "",
        ),
        *("https://user@example.com/", "https://:secret@example.com/", "https://example.com/#part"),
        *("https://example.com/ with blanks", "https://exämple.com/", "https://example.com/\r\nX: y"),
        *("https://example.com:port/", "https://example.com:70000/", "https://[::1/", "https://e.com/" + "x" * 2_048),
    ],
)
def test_a_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(AddressError):
        PUBLIC.check_form(url)


def test_http_is_allowed_together_with_private_addresses_only() -> None:
    assert PRIVATE.check_form("http://receiver/x").port == 80
    assert PUBLIC.check_form("https://example.com/x?y=z").port == 443


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "localhost", "0"),
        *("169.254.169.254", "[fd00:ec2::254]"),
    ],
)
def test_a_host_with_a_private_address_is_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(AddressError, match=r"not public|cannot be resolved"):
        asyncio.run(PUBLIC.check(f"https://{host}/"))


def resolver(*answers: str) -> Any:
    """Return a replacement of the system's resolver that gives one answer for each call."""
    remaining = iter(answers)

    def look_up(_host: str, _port: int) -> list[str]:
        return next(remaining).split(",")

    return look_up


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_look_up", resolver("8.8.8.8,10.0.0.1"))
    with pytest.raises(AddressError, match="has an address that is not public"):
        asyncio.run(PUBLIC.check("https://mixed.example/"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket on the loopback address. It must not get a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def post(policy: AddressPolicy, url: str, seconds: float = 5.0) -> Answer:
    async def run() -> Answer:
        client = WebhookClient(policy, seconds)
        try:
            return await client.post(url, {}, b"{}")
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_a_name_that_leads_to_a_private_address_after_its_check_is_not_connected(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    """The name has a public address when the alert is set, and the loopback address when the request is sent."""
    monkeypatch.setattr(addresses, "_look_up", resolver("8.8.8.8", "127.0.0.1"))
    url = f"https://rebinding.example:{listener.getsockname()[1]}/"
    asyncio.run(PUBLIC.check(url))
    answer = post(PUBLIC, url)
    assert answer == Answer(None, "the URL names the host 'rebinding.example', which has an address that is not public")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_the_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    """The name does not exist: only the addresses of the check can lead to the listener, the second one of them."""
    monkeypatch.setattr(addresses, "_look_up", resolver("127.255.255.254,127.0.0.1"))
    answer = post(PRIVATE, f"http://no-such-name.invalid:{listener.getsockname()[1]}/", 0.5)
    assert answer == Answer(None, "no answer within 0.5 s")
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        assert connection.recv(65_536).startswith(b"POST / HTTP/1.1\r\n")


def test_a_server_that_is_not_there_is_an_answer_without_a_status(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    answer = post(PRIVATE, f"http://127.0.0.1:{port}/")
    assert answer.status is None
    assert answer.error.startswith("ConnectError")


def test_a_signature_is_that_of_the_specification() -> None:
    """The example of https://github.com/standard-webhooks/standard-webhooks, libraries/python/tests."""
    secret = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_receiver_in_the_documentation_accepts_genuine_requests_only() -> None:
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(example, namespace)  # noqa: S102 the page is part of the project
    is_genuine, now = namespace["is_genuine"], int(time.time())
    secret = webhook_secret(UserKey.create(1), "p", "5a")
    headers = signed_headers(secret, "msg_1", now, b"{}")
    assert is_genuine(format_secret(secret), headers, b"{}")
    assert not is_genuine(format_secret(secret), headers, b"[]")
    assert not is_genuine(format_secret(bytes(32)), headers, b"{}")
    assert not is_genuine(format_secret(secret), {**headers, "webhook-id": "msg_2"}, b"{}")
    assert not is_genuine(format_secret(secret), signed_headers(secret, "msg_1", now - 301, b"{}"), b"{}")


def test_secrets_differ_by_user_preset_and_salt_and_have_the_known_form() -> None:
    alice, bob = UserKey.create(1), UserKey.create(1)
    secrets = [
        webhook_secret(alice, "p", "5a"),
        webhook_secret(bob, "p", "5a"),
        webhook_secret(alice, "q", "5a"),
        webhook_secret(alice, "p", "a5"),
    ]
    assert len(set(secrets)) == 4
    assert all(b64decode(format_secret(secret).removeprefix("whsec_")) == secret for secret in secrets)
    assert all(len(secret) == 32 for secret in secrets)


@given(st.integers(1, 30))
def test_waits_grow_up_to_the_longest_within_the_jitter(attempts: int) -> None:
    back_off = BackOff()
    wait = back_off.wait(attempts)
    middle = min(5.0 * 4.0 ** (attempts - 1), 21_600.0)
    assert 0.8 * middle <= wait <= 1.2 * middle


def test_the_last_attempt_is_about_a_day_after_the_first() -> None:
    back_off = BackOff(jitter=0.0)
    total = sum(back_off.wait(attempt) for attempt in range(1, back_off.attempts))
    assert 20 * 3_600 < total < 30 * 3_600
