"""Static tokens of the API: a file holds the subject, the scopes and a hash of each token.

A token has 256 random bits and cannot be guessed. One round of SHA-256 therefore protects it as well as a slow hash
protects a password, and costs a request one microsecond. The tokens are in a file and not in Redis, because producers
may write to Redis, and because the API must know the tokens while Redis is unavailable.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_hex, token_urlsafe

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.access.errors import InvalidFileError, TokensFileError
from readapi.http.identities import Identity, Scope

PREFIX = "tickview"
"""Prefix of every token. Scanners for leaked secrets recognize it."""

SECRET_BYTES = 32
"""Number of random bytes in a token."""


class Token(BaseModel):
    """The stored part of a token: everything but the secret. Times are seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    subject: str
    scopes: tuple[Scope, ...]
    sha256: str
    """The hash of the whole text of the token, as hexadecimal digits."""
    created_at: float
    expires_at: float | None = None
    """The end of the token's validity. None: the token does not expire."""

    @property
    def has_expired(self) -> bool:
        """Whether the token has expired."""
        return self.expires_at is not None and self.expires_at <= time.time()


class _TokensFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: tuple[Token, ...]


def parse_tokens(content: bytes) -> Mapping[str, Token]:
    """Parse the content of a tokens file. Return the tokens by their ids.

    Raises:
        InvalidFileError: The content is not a tokens file.
    """
    try:
        parsed = _TokensFile.model_validate_json(content)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_input=False)
        place = ".".join(map(str, first["loc"])) or "content"
        raise InvalidFileError(
            f"The file is not a tokens file ({place}: {first['msg']}). Repair it, or remove it and create new tokens."
        ) from None
    return {token.id: token for token in parsed.tokens}


def identify_token(text: str, tokens: Mapping[str, Token]) -> Identity | None:
    """Return the identity of a token, or None if the token is unknown or has expired."""
    prefix, _, rest = text.partition("_")
    token = tokens.get(rest.partition("_")[0]) if prefix == PREFIX else None
    if token is None or not compare_digest(token.sha256, _digest(text)) or token.has_expired:
        return None
    return Identity(token.subject, frozenset(token.scopes), token.id)


def read_tokens(path: Path) -> Mapping[str, Token]:
    """Read a tokens file. A file that does not exist contains no tokens.

    Raises:
        TokensFileError: The file cannot be read, or it is not a tokens file.
    """
    try:
        return parse_tokens(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _inaccessible(path, error) from error
    except InvalidFileError as error:
        raise TokensFileError(f"{path}: {error}") from error


def create_token(path: Path, subject: str, scopes: Sequence[Scope], lifetime: float | None) -> tuple[str, Token]:
    """Create a token and add it to a tokens file.

    Args:
        path: The tokens file. It is created if it does not exist.
        subject: The user whom the token identifies.
        scopes: The scopes that the token grants.
        lifetime: Seconds until the token expires. None: the token does not expire.

    Returns:
        The text of the token, which is stored nowhere, and the stored part.

    Raises:
        TokensFileError: The file cannot be read or written, or it is not a tokens file.
    """
    token_id, now = token_hex(6), time.time()
    text = f"{PREFIX}_{token_id}_{token_urlsafe(SECRET_BYTES)}"
    token = Token(
        id=token_id,
        subject=subject,
        scopes=tuple(dict.fromkeys(scopes)),
        sha256=_digest(text),
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )
    with _update(path) as tokens:
        tokens[token_id] = token
    return text, token


def revoke_token(path: Path, token_id: str) -> Token:
    """Remove a token from a tokens file. The API refuses the token a second or two later.

    Raises:
        TokensFileError: The file does not contain the token, or cannot be read or written.
    """
    with _update(path) as tokens:
        if token_id not in tokens:
            raise TokensFileError(f"{path} has no token with the id {token_id}. `tickview token list` lists the ids.")
        return tokens.pop(token_id)


@contextmanager
def _update(path: Path) -> Iterator[dict[str, Token]]:
    """Yield the tokens of a file for changes, then replace the file. One process at a time may do this."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            tokens = dict(read_tokens(path))
            yield tokens
            _replace(path, _TokensFile(tokens=tuple(tokens.values())).model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise _inaccessible(path, error) from error


def _replace(path: Path, content: str) -> None:
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        # Owner and mode stay, so that every account that can read the old file can read the new file.
        old = path.stat()
        if (old.st_uid, old.st_gid) != (new.stat().st_uid, new.stat().st_gid):
            os.chown(new, old.st_uid, old.st_gid)
        new.chmod(old.st_mode & 0o777)
    new.replace(path)


def _inaccessible(path: Path, error: OSError) -> TokensFileError:
    return TokensFileError(
        f"{path}: The tokens file cannot be read or written: {error.strerror}. "
        "Check its permissions and TICKVIEW_TOKENS_FILE."
    )


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
