"""An identity provider for tests: its keys, its JWKS file, JWTs that it signs, and forged JWTs."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = "https://login.example"
AUDIENCE = "tickview"

_KEYS = {
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
_OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())
_ALGORITHMS = jwt.algorithms.get_default_algorithms()


def public_pem(algorithm: str) -> bytes:
    """The public part of a key in PEM."""
    return _KEYS[algorithm].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_jwk(algorithm: str) -> dict[str, Any]:
    """The public part of a key as a JWK. Its id is the name of the algorithm."""
    jwk = _ALGORITHMS[algorithm].to_jwk(_KEYS[algorithm].public_key(), as_dict=True)
    return {**jwk, "kid": algorithm, "use": "sig"}


def foreign_jwks() -> list[dict[str, Any]]:
    """Published keys that must not verify tokens. The id of each key names the reason.

    Most are copies of the provider's own keys: if TickView used one, it would accept a token signed with the key.
    """
    other_curve = _ALGORITHMS["ES384"].to_jwk(_OTHER_CURVE.public_key(), as_dict=True)
    changes: dict[str, dict[str, Any]] = {
        "use": {"use": "enc"},
        "alg of encryption": {"use": "enc", "alg": "RSA-OAEP"},
        "alg": {"alg": "RS512"},
        "key_ops": {"key_ops": ["encrypt", "wrapKey"]},
        "malformed": {"n": 7},
    }
    return [
        *({**public_jwk("RS256"), **change, "kid": name} for name, change in changes.items()),
        {**other_curve, "use": "sig", "kid": "crv"},
        {**public_jwk("EdDSA"), "crv": "X25519", "kid": "X25519"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "kty"},
        {"kty": "oct", "alg": "HS256", "kid": "oct"},
        {name: value for name, value in public_jwk("EdDSA").items() if name != "kid"},
    ]


def private_jwk() -> dict[str, Any]:
    """A JWK with its private part, which must never be published."""
    jwk = _ALGORITHMS["EdDSA"].to_jwk(_KEYS["EdDSA"], as_dict=True)
    return {**jwk, "kid": "private"}


def write_keys(path: Path, *algorithms: str) -> Path:
    """Write a JWKS file with the provider's keys between unusable keys."""
    keys = [*foreign_jwks(), *(public_jwk(algorithm) for algorithm in algorithms or _KEYS), *foreign_jwks()]
    path.write_text(json.dumps({"keys": keys}))
    return path


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a valid token with changes. A claim that is None is omitted."""
    now = int(time.time())
    valid = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": now + 600, "iat": now, "scope": "read openid"}
    return {name: value for name, value in {**valid, **changed}.items() if value is not None}


def sign_token(algorithm: str = "RS256", kid: str | None = None, **changed: Any) -> str:
    """A token signed by the provider."""
    return jwt.encode(claims(**changed), _KEYS[algorithm], algorithm, headers={"kid": kid or algorithm})


def encode_part(content: Any) -> str:
    """Encode one part of a token."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def unsigned_token() -> str:
    """A token with ``alg: none`` and no signature."""
    return f"{encode_part({'alg': 'none', 'typ': 'JWT', 'kid': 'RS256'})}.{encode_part(claims())}."


def key_confusion_token(algorithm: str = "RS256") -> str:
    """A token signed by HS256 with the public key as the secret."""
    head = f"{encode_part({'alg': 'HS256', 'typ': 'JWT', 'kid': algorithm})}.{encode_part(claims())}"
    mac = hmac.new(public_pem(algorithm), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def tampered_token() -> str:
    """A valid token with a scope added after signing."""
    head, _, signature = sign_token().split(".")
    return f"{head}.{encode_part(claims(scope='read operate'))}.{signature}"


def foreign_key_token() -> str:
    """A token signed with another key than the key id says."""
    foreign_key = rsa.generate_private_key(65_537, 2_048)
    return jwt.encode(claims(), foreign_key, "RS256", headers={"kid": "RS256"})


def deeply_nested_token() -> str:
    """A token whose header is nested too deep for a recursive parser."""
    header = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 5_000).rstrip(b"=").decode()
    return f"{header}.{encode_part({})}.AA"


def forged_tokens() -> dict[str, str]:
    """Name -> a token that must be refused."""
    now = int(time.time())
    return {
        "alg none": unsigned_token(),
        "key confusion": key_confusion_token(),
        "key confusion, EC": key_confusion_token("ES256"),
        "signed with a foreign key": foreign_key_token(),
        "tampered": tampered_token(),
        "another key's algorithm": sign_token("ES256", kid="RS256"),
        "unknown kid": sign_token(kid="RS999"),
        **{f"key ignored for its {name}": sign_token(kid=name) for name in ("use", "alg", "key_ops", "oct")},
        "key ignored for its curve": jwt.encode(claims(), _OTHER_CURVE, "ES384", headers={"kid": "crv"}),
        "secret of zeros": jwt.encode(claims(), "0" * 32, "HS256", headers={"kid": "oct"}),
        "expired": sign_token(exp=now - 3_600),
        "not yet valid": sign_token(nbf=now + 3_600),
        "wrong issuer": sign_token(iss="https://evil.example"),
        "wrong audience": sign_token(aud="another"),
        "no expiry": sign_token(exp=None),
        "no audience": sign_token(aud=None),
        "no issuer": sign_token(iss=None),
        "no subject": sign_token(sub=None),
        "subject with a line end": sign_token(sub="anna\r\nX-Admin: 1"),
        "deep JSON": deeply_nested_token(),
        "two parts": "a.b",
        "three empty parts": "...",
    }
