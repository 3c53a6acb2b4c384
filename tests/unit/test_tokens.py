"""Static tokens and JWTs: whose they are, and which of them are none."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from infra.access.errors import TokensFileError
from infra.access.jwks import JwksReader, parse_jwks
from infra.access.jwts import LEEWAY_SECONDS, JwtVerifier, scopes_of
from infra.access.tokens import create_token, identify_token, parse_tokens, read_tokens, revoke_token
from infra.access.watched_file import WatchedFile
from infra.processes.errors import StartupError
from readapi.http.identities import Identity
from tests import identity_provider as provider


def jwts(path: Path) -> JwtVerifier:
    keys = WatchedFile("TICKVIEW_JWT_JWKS_FILE", provider.write_keys(path / "jwks.json"), JwksReader().read)
    return JwtVerifier(provider.ISSUER, provider.AUDIENCE, keys)


def test_a_token_is_of_its_subject_and_only_a_hash_of_it_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read", "write", "read"], None)
    other, _ = create_token(file, "bert", ["operate"], None)
    assert identify_token(text, read_tokens(file)) == Identity("anna", frozenset({"read", "write"}))
    assert identify_token(other, read_tokens(file)) == Identity("bert", frozenset({"operate"}))
    # The secret may contain underscores itself.
    secret = text.split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in file.read_text()
    assert token.scopes == ("read", "write")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_no_token_is_nobodys(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read"], None)
    known = read_tokens(file)
    wrong = [text[:-1], text + "A", text.swapcase(), f"tickview_{token.id}_{token.sha256}", f"tickview_{token.id}_", ""]
    assert [identify_token(one, known) for one in [*wrong, "tickview", "tickview_", token.id, "tickview_0_0"]] == [
        None
    ] * 10


def test_a_token_ends(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, _ = create_token(file, "anna", ["read"], -1.0)
    assert identify_token(text, read_tokens(file)) is None


def test_a_revoked_token_is_none_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read"], None)
    kept, _ = create_token(file, "bert", ["read"], None)
    file.chmod(0o640)
    revoke_token(file, token.id)
    assert identify_token(text, read_tokens(file)) is None
    assert identify_token(kept, read_tokens(file)) is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    with pytest.raises(TokensFileError, match="tickview token list"):
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
    with pytest.raises(ValueError, match="is not a tokens file"):
        parse_tokens(content.encode())


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    file = tmp_path / "tokens.json"
    first, token = create_token(file, "anna", ["read"], None)
    watched = WatchedFile("TICKVIEW_TOKENS_FILE", file, parse_tokens)
    assert watched.content is watched.content
    second, _ = create_token(file, "bert", ["read"], None)
    assert identify_token(second, watched.content) is not None
    revoke_token(file, token.id)
    assert identify_token(first, watched.content) is None
    file.write_text("broken")
    assert identify_token(second, watched.content) is not None
    file.unlink()
    assert identify_token(second, watched.content) is not None


def test_a_file_that_can_be_read_again_is_read_though_it_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    file = tmp_path / "number"
    file.write_text("1")
    watched = WatchedFile("TICKVIEW_TOKENS_FILE", file, int)
    file.write_text("two")
    then = file.stat().st_mtime_ns
    assert watched.content == 1
    file.write_text("222")
    os.utime(file, ns=(then, then))
    assert watched.content == 222


def test_what_is_wrong_with_a_file_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    file = tmp_path / "number"
    file.write_text("1")
    watched = WatchedFile("TICKVIEW_TOKENS_FILE", file, int)
    with capture_logs() as logs:
        for content in ("two", None, "3", "four"):
            file.unlink() if content is None else file.write_text(content)
            for _ in range(3):
                assert watched.content in (1, 3)
    wrong, again, over = "file unreadable", "file read again", "file readable again"
    assert [log["event"] for log in logs] == [wrong, wrong, again, over, wrong]


def test_a_file_that_cannot_be_read_at_first_is_refused_by_the_name_of_the_setting(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"TICKVIEW_TOKENS_FILE=.*No such file"):
        WatchedFile("TICKVIEW_TOKENS_FILE", tmp_path / "none.json", parse_tokens)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_signed_jwt_is_of_its_subject(tmp_path: Path, algorithm: str) -> None:
    known = jwts(tmp_path)
    for _ in range(2):
        assert known.identify(provider.sign_token(algorithm)) == Identity("anna", frozenset({"read"}))


@pytest.mark.parametrize("name", provider.forged_tokens())
def test_a_forged_jwt_is_nobodys(tmp_path: Path, name: str) -> None:
    assert jwts(tmp_path).identify(provider.forged_tokens()[name]) is None


@pytest.mark.parametrize("end", [str(2**40), "soon", True, [2**40], {}, float("inf"), float("nan"), -(2**70)])
def test_an_end_that_is_none_is_nobodys(tmp_path: Path, end: Any) -> None:
    assert jwts(tmp_path).identify(provider.sign_token(exp=end)) is None


def test_a_jwt_that_was_known_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, text = jwts(tmp_path), provider.sign_token()
    assert known.identify(text) is not None
    later = time.time() + 600 + LEEWAY_SECONDS
    monkeypatch.setattr("infra.access.jwts.time.time", lambda: later)
    assert known.identify(text) is None


def test_the_leeway_is_given(tmp_path: Path) -> None:
    known, now = jwts(tmp_path), int(time.time())
    assert known.identify(provider.sign_token(exp=now - LEEWAY_SECONDS // 2)) is not None
    assert known.identify(provider.sign_token(exp=now - 2 * LEEWAY_SECONDS)) is None


def test_a_key_that_is_withdrawn_is_worth_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    known, text = jwts(tmp_path), provider.sign_token("RS256")
    assert known.identify(text) is not None
    provider.write_keys(tmp_path / "jwks.json", "ES256")
    assert known.identify(text) is None
    assert known.identify(provider.sign_token("ES256")) is not None


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize("use", ["sig", "enc"])
@pytest.mark.parametrize("key", [provider.private_jwk(), {"kty": "oct", "k": "c2VjcmV0", "kid": "a"}])
def test_a_file_with_a_secret_in_it_is_refused(key: dict[str, Any], use: str) -> None:
    with pytest.raises(ValueError, match="secret part"):
        parse_jwks(jwks(provider.public_jwk("RS256"), {**key, "use": use}))


@pytest.mark.parametrize("content", ["", "{}", "[]", "7", '{"keys": 7}', '{"keys": {"a": "b"}}', '{"keys": "text"}'])
def test_a_file_that_is_no_jwks_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="is not a JWKS file"):
        parse_jwks(content.encode())


WHY_PASSED_OVER = {
    "use": "its use is 'enc', not 'sig'",
    "alg of encryption": "its use is 'enc', not 'sig'",
    "alg": "its alg is 'RS512', but TickView uses RSA keys for RS256 only",
    "key_ops": "its key_ops are ['encrypt', 'wrapKey'], without 'verify'",
    "malformed": "it is malformed: InvalidKeyError",
    "crv": "its type is 'EC P-384', but TickView supports only RSA, EC P-256, OKP Ed25519, OKP Ed448",
    "X25519": "its type is 'OKP X25519', but TickView supports only RSA, EC P-256, OKP Ed25519, OKP Ed448",
    "kty": "its type is 'AKP', but TickView supports only RSA, EC P-256, OKP Ed25519, OKP Ed448",
    "oct": "its type is 'oct', but TickView supports only RSA, EC P-256, OKP Ed25519, OKP Ed448",
    None: "it has no kid, so that no token can refer to it",
}


def test_keys_that_are_not_ours_to_use_are_ignored_and_told_once() -> None:
    reader, usable = JwksReader(), provider.public_jwk("ES256")
    with capture_logs() as logs:
        first = reader.read(jwks(*provider.foreign_jwks(), usable, *provider.foreign_jwks()))
        again = reader.read(jwks(usable, *provider.foreign_jwks(), {**usable, "kid": "new", "use": "enc"}))
    assert [list(keys) for keys in (first, again)] == [["ES256"]] * 2
    assert {log["event"] for log in logs} == {"key ignored"}
    told = [(log["kid"], log["reason"]) for log in logs]
    assert told == [*WHY_PASSED_OVER.items(), ("new", WHY_PASSED_OVER["use"])]


@pytest.mark.parametrize(
    "key", [{"kty": "RSA", "kid": "a"}, "text", {}, None, 7, [], {"kty": [], "kid": {}, "use": []}]
)
def test_what_is_no_key_is_ignored(key: Any) -> None:
    usable, [ignored] = parse_jwks(jwks(key, provider.public_jwk("ES256")))
    assert list(usable) == ["ES256"]
    assert ignored.reason


@pytest.mark.parametrize(
    ("algorithm", "told"),
    [
        # What providers leave away, and what they say besides.
        ("RS256", {"use": None, "alg": None}),
        ("ES256", {"alg": "ES256", "key_ops": ["verify"], "x5c": ["AAAA"]}),
        ("EdDSA", {"key_ops": None}),
    ],
)
def test_a_key_says_no_more_than_it_must(algorithm: str, told: dict[str, Any]) -> None:
    key = provider.public_jwk(algorithm)
    del key["use"]
    assert parse_jwks(jwks({**key, **told})).usable[algorithm].algorithm_name == algorithm


@pytest.mark.parametrize("alg", ["HS256", "none", "ES256", "RSA-OAEP", 7, ["RS256"]])
def test_a_key_is_for_the_algorithm_of_its_kind_whatever_it_says(alg: Any) -> None:
    usable, [ignored] = parse_jwks(jwks({**provider.public_jwk("RS256"), "alg": alg}))
    assert (dict(usable), ignored.kid) == ({}, "RS256")
    assert repr(alg) in ignored.reason


def test_a_set_without_a_key_to_use_is_refused_at_first_with_the_reasons(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(*provider.foreign_jwks(), {"kty": "a\nb", "kid": "line\nend"}))
    with capture_logs() as logs, pytest.raises(StartupError, match="has no key that can verify tokens") as refused:
        WatchedFile("TICKVIEW_JWT_JWKS_FILE", file, JwksReader().read)
    [line] = str(refused.value).splitlines()
    for kid, why in WHY_PASSED_OVER.items():
        assert f"{'key without kid' if kid is None else repr(kid)}: {why}" in line
    assert logs == []
    with pytest.raises(ValueError, match="can verify tokens: it has no keys"):
        JwksReader().read(jwks())


def test_a_set_whose_keys_were_all_withdrawn_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    known, text = jwts(tmp_path), provider.sign_token()
    assert known.identify(text) is not None
    (tmp_path / "jwks.json").write_bytes(jwks({**provider.public_jwk("RS256"), "use": "enc"}))
    with capture_logs() as logs:
        assert [known.identify(text) for _ in range(3)] == [None] * 3
    events = [log["event"] for log in logs]
    assert events == ["no usable key in JWKS file, every JWT is refused", "key ignored", "file read again"]


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
