"""The keys that an identity provider publishes (JWKS): those that verify tokens, and why the others do not."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jwt
import orjson
import structlog

from domain.errors import TickViewError

logger = structlog.get_logger()

ALGORITHMS = {"RSA": "RS256", "EC P-256": "ES256", "OKP Ed25519": "EdDSA", "OKP Ed448": "EdDSA"}
"""By kind of key and curve: each key is for one algorithm alone, and none of these is symmetric."""

_SECRET = {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}
"""Members of a JWK that nobody but its owner should have."""

Keys = Mapping[str, jwt.PyJWK]
"""By their ids."""


class PassedOver(NamedTuple):
    """A key that no token is verified with."""

    kid: str | None
    why: str


class KeySet(NamedTuple):
    """What a JWKS file has."""

    usable: Keys
    passed_over: tuple[PassedOver, ...]


class UnusableKeyError(TickViewError, ValueError):
    """The key is not one of ours to use; the message says why."""


def parse_keys(content: bytes) -> KeySet:
    """The keys of a JWKS file. Raises ValueError for a file that is none, and for one with a secret in it."""
    try:
        found = orjson.loads(content)["keys"]
    except (TypeError, KeyError, orjson.JSONDecodeError) as error:
        raise ValueError(f"is no JWKS file of public keys: {type(error).__name__}") from None
    if not isinstance(found, list):
        raise ValueError("is no JWKS file of public keys: keys is no list")
    usable: dict[str, jwt.PyJWK] = {}
    passed_over = []
    for one in found:
        kid = _kid(one)
        try:
            key = _key(one)
            if kid is None:
                raise UnusableKeyError("it has no kid, by which tokens name it")
            usable[kid] = key
        except UnusableKeyError as error:
            passed_over.append(PassedOver(kid, str(error)))
    return KeySet(usable, tuple(passed_over))


def _kid(described: Any) -> str | None:
    kid = described.get("kid") if isinstance(described, dict) else None
    return kid if isinstance(kid, str) else None


def _key(described: Any) -> jwt.PyJWK:
    if not isinstance(described, dict):
        raise UnusableKeyError("it is no object")
    if _SECRET & described.keys():
        raise ValueError("has a key with its secret part: keep that away from here, only public keys are needed")
    _check_use(described)
    algorithm = _algorithm(described)
    try:
        return jwt.PyJWK(described, algorithm)
    except (jwt.PyJWTError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise UnusableKeyError(f"it is malformed: {type(error).__name__}") from None


def _check_use(described: Mapping[str, Any]) -> None:
    """Raises UnusableKeyError for a key that its owner made for something else than signatures."""
    use, operations = described.get("use"), described.get("key_ops")
    if use not in (None, "sig"):
        raise UnusableKeyError(f"its use is {use!r}, not 'sig'")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise UnusableKeyError(f"its key_ops are {operations!r}, without 'verify'")


def _algorithm(described: Mapping[str, Any]) -> str:
    """What the key is for, by its kind, whatever else it says. Raises UnusableKeyError if it says something else."""
    kind = " ".join(str(described[name]) for name in ("kty", "crv") if described.get(name))
    if kind not in ALGORITHMS:
        raise UnusableKeyError(f"it is of the kind {kind!r}: only {', '.join(ALGORITHMS)} are taken")
    algorithm, said = ALGORITHMS[kind], described.get("alg")
    if said not in (None, algorithm):
        raise UnusableKeyError(f"its alg is {said!r}: keys of the kind {kind} are taken for {algorithm} alone")
    return algorithm


class KeyReader:
    """Reads a JWKS file again and again, and tells the log once of each key that is passed over."""

    def __init__(self) -> None:
        self._is_first = True
        self._told: set[PassedOver] = set()

    def read(self, content: bytes) -> Keys:
        """The keys that can be used. Raises ValueError as ``parse_keys``, and at first for a file that has none.

        Later a file without any is believed: all its keys were withdrawn.
        """
        usable, passed_over = parse_keys(content)
        if not usable:
            lacking = f"has no key that tokens can be verified with: {_reasons(passed_over)}"
            if self._is_first:
                raise ValueError(lacking)
            logger.warning("JWKS file without a key: no JWT is taken", reason=lacking)
        self._is_first = False
        for kid, why in dict.fromkeys(passed_over):
            if (kid, why) not in self._told:
                logger.info("key passed over", kid=kid, why=why)
        self._told = set(passed_over)
        return usable


def _reasons(passed_over: Iterable[PassedOver]) -> str:
    told = [f"{'one without kid' if kid is None else repr(kid)}: {why}" for kid, why in passed_over]
    return "; ".join(told) or "it has none at all"
