"""Static tokens and JWTs: whose they are, and which of them are none."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from infra.access.jwts import LEEWAY_SECONDS, Jwts, parse_keys, scopes_of
from infra.access.tokens import create_token, parse_tokens, read_tokens, revoke_token, whose
from infra.access.watched import Watched
from infra.errors import StartupError
from readapi.access import Identity
from tests import tokens as provider


def jwts(path: Path) -> Jwts:
    keys = Watched("TICKVIEW_JWT_JWKS_FILE", provider.write_keys(path / "jwks.json"), parse_keys)
    return Jwts(provider.ISSUER, provider.AUDIENCE, keys)


def test_a_token_is_of_its_subject_and_only_a_hash_of_it_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read", "write", "read"], None)
    other, _ = create_token(file, "bert", ["operate"], None)
    assert whose(text, read_tokens(file)) == Identity("anna", frozenset({"read", "write"}))
    assert whose(other, read_tokens(file)) == Identity("bert", frozenset({"operate"}))
    assert text.rsplit("_", 1)[1] not in file.read_text()
    assert token.scopes == ("read", "write")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_no_token_is_nobodys(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read"], None)
    known = read_tokens(file)
    wrong = [text[:-1], text + "A", text.swapcase(), f"tickview_{token.id}_{token.sha256}", f"tickview_{token.id}_", ""]
    assert [whose(one, known) for one in [*wrong, "tickview", "tickview_", token.id, "tickview_0_0"]] == [None] * 10


def test_a_token_ends(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, _ = create_token(file, "anna", ["read"], -1.0)
    assert whose(text, read_tokens(file)) is None


def test_a_revoked_token_is_none_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read"], None)
    kept, _ = create_token(file, "bert", ["read"], None)
    file.chmod(0o640)
    revoke_token(file, token.id)
    assert whose(text, read_tokens(file)) is None
    assert whose(kept, read_tokens(file)) is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    with pytest.raises(StartupError, match="tickview token list"):
        revoke_token(file, token.id)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_file_stays_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    _, token = create_token(file, "anna", ["read"], None)
    os.chown(file, 65_534, 65_533)
    revoke_token(file, token.id)
    found = file.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65_534, 65_533, 0o600)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"tokens": [{"id": "a"}]}', '{"tokens": [], "more": 1}'])
def test_a_file_that_is_none_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="is no file of tokens"):
        parse_tokens(content.encode())


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.access.watched.LOOK_SECONDS", -1.0)
    file = tmp_path / "tokens.json"
    first, token = create_token(file, "anna", ["read"], None)
    watched = Watched("TICKVIEW_TOKENS_FILE", file, parse_tokens)
    assert watched.content is watched.content
    second, _ = create_token(file, "bert", ["read"], None)
    assert whose(second, watched.content) is not None
    revoke_token(file, token.id)
    assert whose(first, watched.content) is None
    file.write_text("broken")
    assert whose(second, watched.content) is not None
    file.unlink()
    assert whose(second, watched.content) is not None


def test_a_file_that_can_be_read_again_is_read_though_it_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.access.watched.LOOK_SECONDS", -1.0)
    file = tmp_path / "number"
    file.write_text("1")
    watched = Watched("TICKVIEW_TOKENS_FILE", file, int)
    file.write_text("two")
    then = file.stat().st_mtime_ns
    assert watched.content == 1
    file.write_text("222")
    os.utime(file, ns=(then, then))
    assert watched.content == 222


def test_what_is_wrong_with_a_file_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched.LOOK_SECONDS", -1.0)
    file = tmp_path / "number"
    file.write_text("1")
    watched = Watched("TICKVIEW_TOKENS_FILE", file, int)
    with capture_logs() as logs:
        for content in ("two", None, "3", "four"):
            file.unlink() if content is None else file.write_text(content)
            for _ in range(3):
                assert watched.content in (1, 3)
    wrong, again, over = "file cannot be read", "file read again", "file is as it should be"
    assert [log["event"] for log in logs] == [wrong, wrong, again, over, wrong]


def test_a_file_that_cannot_be_read_at_first_is_refused_by_the_name_of_the_setting(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"TICKVIEW_TOKENS_FILE: .*No such file"):
        Watched("TICKVIEW_TOKENS_FILE", tmp_path / "none.json", parse_tokens)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_signed_jwt_is_of_its_subject(tmp_path: Path, algorithm: str) -> None:
    known = jwts(tmp_path)
    for _ in range(2):
        assert known.whose(provider.signed(algorithm)) == Identity("anna", frozenset({"read"}))


@pytest.mark.parametrize("name", provider.forgeries())
def test_a_forged_jwt_is_nobodys(tmp_path: Path, name: str) -> None:
    assert jwts(tmp_path).whose(provider.forgeries()[name]) is None


@pytest.mark.parametrize("end", [str(2**40), "soon", True, [2**40], {}, float("inf"), float("nan"), -(2**70)])
def test_an_end_that_is_none_is_nobodys(tmp_path: Path, end: Any) -> None:
    assert jwts(tmp_path).whose(provider.signed(exp=end)) is None


def test_a_jwt_that_was_known_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, text = jwts(tmp_path), provider.signed()
    assert known.whose(text) is not None
    later = time.time() + 600 + LEEWAY_SECONDS
    monkeypatch.setattr("infra.access.jwts.time.time", lambda: later)
    assert known.whose(text) is None


def test_the_leeway_is_given(tmp_path: Path) -> None:
    known, now = jwts(tmp_path), int(time.time())
    assert known.whose(provider.signed(exp=now - LEEWAY_SECONDS // 2)) is not None
    assert known.whose(provider.signed(exp=now - 2 * LEEWAY_SECONDS)) is None


def test_a_key_that_is_withdrawn_is_worth_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched.LOOK_SECONDS", -1.0)
    known, text = jwts(tmp_path), provider.signed("RS256")
    assert known.whose(text) is not None
    provider.write_keys(tmp_path / "jwks.json", "ES256")
    assert known.whose(text) is None
    assert known.whose(provider.signed("ES256")) is not None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (provider.private_jwk(), "secret part"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}, "secret part"),
        ({**provider.public_jwk("RS256"), "alg": "RS512"}, "RS512"),
        ({name: value for name, value in provider.public_jwk("RS256").items() if name != "kid"}, "without kid"),
        ({"kty": "RSA", "kid": "a"}, "no JWKS file"),
        ("text", "no JWKS file"),
    ],
)
def test_keys_that_are_not_to_be_trusted_are_refused(key: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_keys(json.dumps({"keys": [key]}).encode())


def test_keys_for_encryption_are_passed_over() -> None:
    encrypting = {**provider.public_jwk("RS256"), "use": "enc"}
    content = json.dumps({"keys": [encrypting, provider.public_jwk("ES256")]}).encode()
    assert list(parse_keys(content)) == ["ES256"]


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "read write"}, {"read", "write"}),
        ({"scp": ["read", "operate", "other", 7]}, {"read", "operate"}),
        ({"scp": "produce"}, {"produce"}),
        ({"scope": "openid", "scp": "read"}, set()),
        ({"scope": ["read"]}, {"read"}),
        ({"scope": {"read": 1}}, set()),
        ({}, set()),
    ],
)
def test_scopes_are_those_that_are_ours(claims: dict[str, Any], scopes: set[str]) -> None:
    assert scopes_of(claims) == scopes
