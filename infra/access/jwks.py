"""JWKS: the public keys of an identity provider that verify JWTs, and the reasons to ignore other keys (RFC 7517)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jwt
import orjson
import structlog

from domain.errors import TickViewError
from infra.access.errors import InvalidFileError

logger = structlog.get_logger()

ALGORITHMS = {"RSA": "RS256", "EC P-256": "ES256", "OKP Ed25519": "EdDSA", "OKP Ed448": "EdDSA"}
"""Algorithm by key type and curve. Each key serves one algorithm only, and all algorithms are asymmetric."""

_SECRET_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}
"""Members of a JWK that contain a private or symmetric key."""

Keys = Mapping[str, jwt.PyJWK]
"""Keys by key id (``kid``)."""


class IgnoredKey(NamedTuple):
    """A key that verifies no token."""

    kid: str | None
    reason: str


class KeySet(NamedTuple):
    """The keys of a JWKS file."""

    usable: Keys
    ignored: tuple[IgnoredKey, ...]


class UnusableKeyError(TickViewError, ValueError):
    """The key cannot verify tokens. The message is a clause that says why."""


def parse_jwks(content: bytes) -> KeySet:
    """Parse the content of a JWKS file.

    Raises:
        InvalidFileError: The content is not a JWKS, or it contains a private or symmetric key.
    """
    try:
        jwks = orjson.loads(content)["keys"]
    except (TypeError, KeyError, orjson.JSONDecodeError) as error:
        raise InvalidFileError(
            f'The file is not a JWKS file of public keys: it is not a JSON object with "keys" ({type(error).__name__}).'
        ) from None
    if not isinstance(jwks, list):
        raise InvalidFileError('The file is not a JWKS file of public keys: "keys" is not an array.')
    usable: dict[str, jwt.PyJWK] = {}
    ignored = []
    for jwk in jwks:
        kid = _kid(jwk)
        try:
            key = _key(jwk)
            if kid is None:
                raise UnusableKeyError("it has no kid, so that no token can refer to it")
            usable[kid] = key
        except UnusableKeyError as error:
            ignored.append(IgnoredKey(kid, str(error)))
    return KeySet(usable, tuple(ignored))


def _kid(jwk: Any) -> str | None:
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    return kid if isinstance(kid, str) else None


def _key(jwk: Any) -> jwt.PyJWK:
    if not isinstance(jwk, dict):
        raise UnusableKeyError("it is not a JSON object")
    if _SECRET_MEMBERS & jwk.keys():
        raise InvalidFileError(
            "The file contains the secret part of a key. TickView needs public keys only: remove the secret part."
        )
    _check_use(jwk)
    algorithm = _algorithm(jwk)
    try:
        return jwt.PyJWK(jwk, algorithm)
    except (jwt.PyJWTError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise UnusableKeyError(f"it is malformed: {type(error).__name__}") from None


def _check_use(jwk: Mapping[str, Any]) -> None:
    """Check that the key may verify signatures. Raises UnusableKeyError."""
    use, operations = jwk.get("use"), jwk.get("key_ops")
    if use not in (None, "sig"):
        raise UnusableKeyError(f"its use is {use!r}, not 'sig'")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise UnusableKeyError(f"its key_ops are {operations!r}, without 'verify'")


def _algorithm(jwk: Mapping[str, Any]) -> str:
    """Return the algorithm for the type of a key. Raises UnusableKeyError if ``alg`` names another algorithm."""
    key_type = " ".join(str(jwk[name]) for name in ("kty", "crv") if jwk.get(name))
    if key_type not in ALGORITHMS:
        raise UnusableKeyError(f"its type is {key_type!r}, but TickView supports only {', '.join(ALGORITHMS)}")
    algorithm, declared = ALGORITHMS[key_type], jwk.get("alg")
    if declared not in (None, algorithm):
        raise UnusableKeyError(f"its alg is {declared!r}, but TickView uses {key_type} keys for {algorithm} only")
    return algorithm


class JwksReader:
    """Reads successive versions of one JWKS file, and logs each ignored key once."""

    def __init__(self) -> None:
        self._is_first = True
        self._logged: set[IgnoredKey] = set()

    def read(self, content: bytes) -> Keys:
        """Return the usable keys. The first version must have at least one.

        A later version may have none: the identity provider has withdrawn all of its keys.

        Raises:
            InvalidFileError: The content is invalid as for ``parse_jwks``, or the first version has no usable key.
        """
        usable, ignored = parse_jwks(content)
        if not usable:
            problem = f"The file has no key that can verify tokens: {_reasons(ignored)}."
            if self._is_first:
                raise InvalidFileError(problem)
            logger.warning("no usable key in JWKS file, every JWT is refused", reason=problem)
        self._is_first = False
        for key in dict.fromkeys(ignored):
            if key not in self._logged:
                logger.info("key ignored", kid=key.kid, reason=key.reason)
        self._logged = set(ignored)
        return usable


def _reasons(ignored: Iterable[IgnoredKey]) -> str:
    reasons = [f"{'key without kid' if key.kid is None else repr(key.kid)}: {key.reason}" for key in ignored]
    return "; ".join(reasons) or "it has no keys"
