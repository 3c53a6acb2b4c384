"""Static tokens and JWTs: the identity of a valid token, refused tokens, token files and JWKS files."""

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


def jwt_verifier(path: Path) -> JwtVerifier:
    keys = WatchedFile("TICKVIEW_JWT_JWKS_FILE", provider.write_keys(path / "jwks.json"), JwksReader().read)
    return JwtVerifier(provider.ISSUER, provider.AUDIENCE, keys)


def test_a_token_identifies_its_subject_and_the_file_only_has_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read", "write", "read"], None)
    other, other_token = create_token(file, "bert", ["operate"], None)
    assert identify_token(text, read_tokens(file)) == Identity("anna", frozenset({"read", "write"}), token.id)
    assert identify_token(other, read_tokens(file)) == Identity("bert", frozenset({"operate"}), other_token.id)
    # The secret itself may contain underscores.
    secret = text.split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in file.read_text()
    assert token.scopes == ("read", "write")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_invalid_token_identifies_nobody(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read"], None)
    tokens = read_tokens(file)
    wrong = [text[:-1], text + "A", text.swapcase(), f"tickview_{token.id}_{token.sha256}", f"tickview_{token.id}_", ""]
    assert [
        identify_token(invalid, tokens) for invalid in [*wrong, "tickview", "tickview_", token.id, "tickview_0_0"]
    ] == [None] * 10


def test_an_expired_token_identifies_nobody(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, _ = create_token(file, "anna", ["read"], -1.0)
    assert identify_token(text, read_tokens(file)) is None


def test_a_revoked_token_identifies_nobody_and_other_tokens_stay_valid(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    text, token = create_token(file, "anna", ["read"], None)
    other_text, _ = create_token(file, "bert", ["read"], None)
    file.chmod(0o640)
    revoke_token(file, token.id)
    assert identify_token(text, read_tokens(file)) is None
    assert identify_token(other_text, read_tokens(file)) is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    with pytest.raises(TokensFileError, match="tickview token list"):
        revoke_token(file, token.id)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_the_owner_and_mode_of_the_file_are_preserved(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    _, token = create_token(file, "anna", ["read"], None)
    os.chown(file, 65_534, 65_533)
    revoke_token(file, token.id)
    status = file.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65_534, 65_533, 0o600)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"tokens": [{"id": "a"}]}', '{"tokens": [], "more": 1}'])
def test_an_invalid_tokens_file_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="is not a tokens file"):
        parse_tokens(content.encode())


def test_a_changed_file_is_read_again_and_an_unreadable_file_is_ignored(
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


def test_a_repaired_file_is_read_although_its_size_and_time_are_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    file = tmp_path / "number"
    file.write_text("1")
    watched = WatchedFile("TICKVIEW_TOKENS_FILE", file, int)
    file.write_text("two")
    modified_at = file.stat().st_mtime_ns
    assert watched.content == 1
    file.write_text("222")
    os.utime(file, ns=(modified_at, modified_at))
    assert watched.content == 222


def test_a_problem_of_a_file_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    file = tmp_path / "number"
    file.write_text("1")
    watched = WatchedFile("TICKVIEW_TOKENS_FILE", file, int)
    with capture_logs() as logs:
        # Each content has another size: two writes within one tick of the file system have the same time.
        for content in ("two", None, "33", "four"):
            file.unlink() if content is None else file.write_text(content)
            for _ in range(3):
                assert watched.content in (1, 33)
    unreadable, read_again, readable = "file unreadable", "file read again", "file readable again"
    assert [log["event"] for log in logs] == [unreadable, unreadable, read_again, readable, unreadable]


def test_a_missing_file_is_refused_with_the_name_of_its_setting(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"TICKVIEW_TOKENS_FILE=.*No such file"):
        WatchedFile("TICKVIEW_TOKENS_FILE", tmp_path / "none.json", parse_tokens)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_signed_jwt_identifies_its_subject(tmp_path: Path, algorithm: str) -> None:
    verifier = jwt_verifier(tmp_path)
    for _ in range(2):
        assert verifier.identify(provider.sign_token(algorithm)) == Identity("anna", frozenset({"read"}))


@pytest.mark.parametrize("name", provider.forged_tokens())
def test_a_forged_jwt_identifies_nobody(tmp_path: Path, name: str) -> None:
    assert jwt_verifier(tmp_path).identify(provider.forged_tokens()[name]) is None


@pytest.mark.parametrize("expiry", [str(2**40), "soon", True, [2**40], {}, float("inf"), float("nan"), -(2**70)])
def test_a_jwt_with_an_invalid_expiry_identifies_nobody(tmp_path: Path, expiry: Any) -> None:
    assert jwt_verifier(tmp_path).identify(provider.sign_token(exp=expiry)) is None


def test_a_cached_jwt_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, text = jwt_verifier(tmp_path), provider.sign_token()
    assert verifier.identify(text) is not None
    later = time.time() + 600 + LEEWAY_SECONDS
    monkeypatch.setattr("infra.access.jwts.time.time", lambda: later)
    assert verifier.identify(text) is None


def test_the_expiry_has_a_leeway(tmp_path: Path) -> None:
    verifier, now = jwt_verifier(tmp_path), int(time.time())
    assert verifier.identify(provider.sign_token(exp=now - LEEWAY_SECONDS // 2)) is not None
    assert verifier.identify(provider.sign_token(exp=now - 2 * LEEWAY_SECONDS)) is None


def test_a_jwt_signed_with_a_withdrawn_key_identifies_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    verifier, text = jwt_verifier(tmp_path), provider.sign_token("RS256")
    assert verifier.identify(text) is not None
    provider.write_keys(tmp_path / "jwks.json", "ES256")
    assert verifier.identify(text) is None
    assert verifier.identify(provider.sign_token("ES256")) is not None


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize("use", ["sig", "enc"])
@pytest.mark.parametrize("key", [provider.private_jwk(), {"kty": "oct", "k": "c2VjcmV0", "kid": "a"}])
def test_a_jwks_file_with_a_secret_is_refused(key: dict[str, Any], use: str) -> None:
    with pytest.raises(ValueError, match="secret part"):
        parse_jwks(jwks(provider.public_jwk("RS256"), {**key, "use": use}))


@pytest.mark.parametrize("content", ["", "{}", "[]", "7", '{"keys": 7}', '{"keys": {"a": "b"}}', '{"keys": "text"}'])
def test_an_invalid_jwks_file_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="is not a JWKS file"):
        parse_jwks(content.encode())


REASONS_TO_IGNORE = {
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


def test_an_unusable_key_is_ignored_and_logged_once() -> None:
    reader, usable = JwksReader(), provider.public_jwk("ES256")
    with capture_logs() as logs:
        first = reader.read(jwks(*provider.foreign_jwks(), usable, *provider.foreign_jwks()))
        second = reader.read(jwks(usable, *provider.foreign_jwks(), {**usable, "kid": "new", "use": "enc"}))
    assert [list(keys) for keys in (first, second)] == [["ES256"]] * 2
    assert {log["event"] for log in logs} == {"key ignored"}
    reasons = [(log["kid"], log["reason"]) for log in logs]
    assert reasons == [*REASONS_TO_IGNORE.items(), ("new", REASONS_TO_IGNORE["use"])]


@pytest.mark.parametrize(
    "key", [{"kty": "RSA", "kid": "a"}, "text", {}, None, 7, [], {"kty": [], "kid": {}, "use": []}]
)
def test_a_malformed_key_is_ignored(key: Any) -> None:
    usable, [ignored] = parse_jwks(jwks(key, provider.public_jwk("ES256")))
    assert list(usable) == ["ES256"]
    assert ignored.reason


@pytest.mark.parametrize(
    ("algorithm", "fields"),
    [
        # Fields that some providers omit, and additional fields.
        ("RS256", {"use": None, "alg": None}),
        ("ES256", {"alg": "ES256", "key_ops": ["verify"], "x5c": ["AAAA"]}),
        ("EdDSA", {"key_ops": None}),
    ],
)
def test_a_key_without_optional_fields_is_usable(algorithm: str, fields: dict[str, Any]) -> None:
    key = provider.public_jwk(algorithm)
    del key["use"]
    assert parse_jwks(jwks({**key, **fields})).usable[algorithm].algorithm_name == algorithm


@pytest.mark.parametrize("alg", ["HS256", "none", "ES256", "RSA-OAEP", 7, ["RS256"]])
def test_a_key_with_another_algorithm_than_its_type_is_ignored(alg: Any) -> None:
    usable, [ignored] = parse_jwks(jwks({**provider.public_jwk("RS256"), "alg": alg}))
    assert (dict(usable), ignored.kid) == ({}, "RS256")
    assert repr(alg) in ignored.reason


def test_a_jwks_file_without_a_usable_key_is_refused_at_start_with_the_reasons(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(*provider.foreign_jwks(), {"kty": "a\nb", "kid": "line\nend"}))
    with capture_logs() as logs, pytest.raises(StartupError, match="has no key that can verify tokens") as refused:
        WatchedFile("TICKVIEW_JWT_JWKS_FILE", file, JwksReader().read)
    [line] = str(refused.value).splitlines()
    for kid, reason in REASONS_TO_IGNORE.items():
        assert f"{'key without kid' if kid is None else repr(kid)}: {reason}" in line
    assert logs == []
    with pytest.raises(ValueError, match="can verify tokens: it has no keys"):
        JwksReader().read(jwks())


def test_a_jwks_file_whose_keys_were_all_withdrawn_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.access.watched_file.CHECK_SECONDS", -1.0)
    verifier, text = jwt_verifier(tmp_path), provider.sign_token()
    assert verifier.identify(text) is not None
    (tmp_path / "jwks.json").write_bytes(jwks({**provider.public_jwk("RS256"), "use": "enc"}))
    with capture_logs() as logs:
        assert [verifier.identify(text) for _ in range(3)] == [None] * 3
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
def test_scopes_of_a_jwt_are_the_known_scopes_of_its_claims(claims: dict[str, Any], scopes: set[str]) -> None:
    assert scopes_of(claims) == scopes
