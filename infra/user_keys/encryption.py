"""Encryption of stored states with the key of a user (AES-256-GCM, NIST SP 800-38D)."""

from base64 import b64decode, b64encode
from os import urandom
from typing import NamedTuple

import msgspec
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.codec import ENCRYPTED_PREFIX

NONCE_BYTES = 12
"""Number of random bytes before each cipher text. One key must not encrypt more than 2^32 states."""

SECRET_BYTES = 32
"""Number of random bytes of a key."""


class UserKey(NamedTuple):
    """The state of the keys of one user. A user has one key at a time: all keys of lower generations are destroyed."""

    generation: int
    """Number of the key among the keys of the user, from 1."""
    secret: bytes
    """``SECRET_BYTES`` bytes, or none if this key is destroyed, too."""

    @classmethod
    def create(cls, generation: int) -> "UserKey":
        """Create a random key."""
        return cls(generation, urandom(SECRET_BYTES))

    def is_destroyed(self, generation: int) -> bool:
        """Return whether the key of a generation is destroyed."""
        return generation < self.generation or (generation == self.generation and not self.secret)


class Place(NamedTuple):
    """The place of a state. A state that is moved to another place cannot be decrypted."""

    stream: str
    version: int
    topic: str


class EncryptedState(msgspec.Struct):
    """The stored form of an encrypted state, in JSON. ``encrypted`` is the first field: see ``ENCRYPTED_PREFIX``."""

    encrypted: str
    """Nonce, cipher text and tag in base64."""
    generation: int
    """Generation of the key."""


_decoder = msgspec.json.Decoder(EncryptedState)


class DecryptionError(ValueError):
    """A state cannot be decrypted: it was changed or moved, or the key is another one."""


def encrypt(key: UserKey, place: Place, state: bytes) -> bytes:
    """Encrypt a state for its place."""
    nonce = urandom(NONCE_BYTES)
    sealed = nonce + AESGCM(key.secret).encrypt(nonce, state, _associated_data(place, key.generation))
    return orjson.dumps({"encrypted": b64encode(sealed).decode(), "generation": key.generation})


def generation_of(state: bytes) -> int:
    """Return the generation of the key of an encrypted state.

    Raises:
        DecryptionError: The state is no encrypted state.
    """
    return _parse(state).generation


def decrypt(key: UserKey, place: Place, state: bytes) -> bytes:
    """Decrypt a state.

    Raises:
        DecryptionError: The state was changed or moved to another place, or it was encrypted with another key.
    """
    stored = _parse(state)
    if stored.generation != key.generation or not key.secret:
        raise DecryptionError(f"the state is encrypted with key {stored.generation}, not with key {key.generation}")
    try:
        sealed = b64decode(stored.encrypted, validate=True)
        associated_data = _associated_data(place, key.generation)
        return AESGCM(key.secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
    except (InvalidTag, ValueError) as error:
        raise DecryptionError("the encrypted state does not fit its place or its key") from error


def _parse(state: bytes) -> EncryptedState:
    try:
        if not state.startswith(ENCRYPTED_PREFIX):
            raise DecryptionError("the state is not encrypted")
        return _decoder.decode(state)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecryptionError(f"the state is no encrypted state: {error}") from error


def _associated_data(place: Place, generation: int) -> bytes:
    return orjson.dumps([place.stream, place.version, place.topic, generation])
