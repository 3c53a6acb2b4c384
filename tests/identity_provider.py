"""An identity provider for tests: keys, the JWKS file it publishes, and JWTs that it signs, or that others forge."""

import base64
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
    """What everybody may know of a key."""
    return _KEYS[algorithm].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_jwk(algorithm: str) -> dict[str, Any]:
    """A key as it is published; its id is the name of the algorithm."""
    described = _ALGORITHMS[algorithm].to_jwk(_KEYS[algorithm].public_key(), as_dict=True)
    return {**described, "kid": algorithm, "use": "sig"}


def foreign_jwks() -> list[dict[str, Any]]:
    """Keys that providers publish besides, each named for what keeps tokens from being verified with it.

    Those of ours under another name would verify what we sign.
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
    """What nobody should publish."""
    described = _ALGORITHMS["EdDSA"].to_jwk(_KEYS["EdDSA"], as_dict=True)
    return {**described, "kid": "private"}


def write_keys(path: Path, *algorithms: str) -> Path:
    """The JWKS file, with keys of ours among foreign ones."""
    keys = [*foreign_jwks(), *(public_jwk(one) for one in algorithms or _KEYS), *foreign_jwks()]
    path.write_text(json.dumps({"keys": keys}))
    return path


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good token, ``changed``; what is changed to None is left out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": now + 600, "iat": now, "scope": "read openid"}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def sign_token(algorithm: str = "RS256", kid: str | None = None, **changed: Any) -> str:
    """A token as the provider makes it."""
    return jwt.encode(claims(**changed), _KEYS[algorithm], algorithm, headers={"kid": kid or algorithm})


def encode_part(content: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def unsigned_token() -> str:
    """``alg: none``."""
    return f"{encode_part({'alg': 'none', 'typ': 'JWT', 'kid': 'RS256'})}.{encode_part(claims())}."


def key_confusion_token(algorithm: str = "RS256") -> str:
    """Signed with the public key as if that were a secret for HS256."""
    import hashlib
    import hmac

    head = f"{encode_part({'alg': 'HS256', 'typ': 'JWT', 'kid': algorithm})}.{encode_part(claims())}"
    mac = hmac.new(public_pem(algorithm), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def tampered_token() -> str:
    """A good token to which a scope was added."""
    head, _, signature = sign_token().split(".")
    return f"{head}.{encode_part(claims(scope='read operate'))}.{signature}"


def foreign_key_token() -> str:
    """Signed with a key that is not the one of its id."""
    other = rsa.generate_private_key(65_537, 2_048)
    return jwt.encode(claims(), other, "RS256", headers={"kid": "RS256"})


def deeply_nested_token() -> str:
    """With a header that no recursive reader survives."""
    header = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 5_000).rstrip(b"=").decode()
    return f"{header}.{encode_part({})}.AA"


def forged_tokens() -> dict[str, str]:
    """Name -> a token that must not be taken."""
    now = int(time.time())
    return {
        "alg none": unsigned_token(),
        "key confusion": key_confusion_token(),
        "key confusion, EC": key_confusion_token("ES256"),
        "key of another": foreign_key_token(),
        "tampered": tampered_token(),
        "another key's algorithm": sign_token("ES256", kid="RS256"),
        "unknown kid": sign_token(kid="RS999"),
        **{f"passed over for its {name}": sign_token(kid=name) for name in ("use", "alg", "key_ops", "oct")},
        "passed over for its curve": jwt.encode(claims(), _OTHER_CURVE, "ES384", headers={"kid": "crv"}),
        "secret of no key": jwt.encode(claims(), "0" * 32, "HS256", headers={"kid": "oct"}),
        "ended": sign_token(exp=now - 3_600),
        "not yet valid": sign_token(nbf=now + 3_600),
        "wrong issuer": sign_token(iss="https://evil.example"),
        "wrong audience": sign_token(aud="another"),
        "no end": sign_token(exp=None),
        "no audience": sign_token(aud=None),
        "no issuer": sign_token(iss=None),
        "no subject": sign_token(sub=None),
        "subject with a line end": sign_token(sub="anna\r\nX-Admin: 1"),
        "deep JSON": deeply_nested_token(),
        "two parts": "a.b",
        "nothing": "...",
    }
