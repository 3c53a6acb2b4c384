"""Static tokens: a file keeps who may do what, and of each token a hash alone.

A token is 256 random bits. Nobody can try so many, so one round of SHA-256 hides it as well as a slow hash hides a
password, and costs a request a microsecond. The file is apart from Redis, because whoever produces events may write
there, and because the service must know its tokens while Redis is away.
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

from infra.processes.errors import StartupError
from readapi.http.identities import Identity, Scope

PREFIX = "tickview"
"""Begins every token, so that those who look for leaked secrets know one."""

SECRET_BYTES = 32


class Token(BaseModel):
    """What is kept of a token. Times are epoch seconds; without ``expires_at`` it does not end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    subject: str
    scopes: tuple[Scope, ...]
    sha256: str
    created_at: float
    expires_at: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= time.time()


class _TokensFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: tuple[Token, ...]


def parse_tokens(content: bytes) -> Mapping[str, Token]:
    """The tokens by their ids. Raises ValueError."""
    try:
        parsed = _TokensFile.model_validate_json(content)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_input=False)
        raise ValueError(f"is no file of tokens: {'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None
    return {token.id: token for token in parsed.tokens}


def whose(text: str, tokens: Mapping[str, Token]) -> Identity | None:
    """Whose token it is, if it is one of these and has not ended."""
    prefix, _, rest = text.partition("_")
    found = tokens.get(rest.partition("_")[0]) if prefix == PREFIX else None
    if found is None or not compare_digest(found.sha256, _digest(text)) or found.has_ended:
        return None
    return Identity(found.subject, frozenset(found.scopes))


def read_tokens(path: Path) -> Mapping[str, Token]:
    """What the file has, nothing if there is none. Raises StartupError."""
    try:
        return parse_tokens(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StartupError(f"{path}: {error}") from error


def create_token(path: Path, subject: str, scopes: Sequence[Scope], lasts: float | None) -> tuple[str, Token]:
    """Make a token that lasts so many seconds; its text, which is nowhere else, and what is kept of it.

    Raises StartupError where the file cannot be read, or written for those who read it now.
    """
    token_id, now = token_hex(6), time.time()
    text = f"{PREFIX}_{token_id}_{token_urlsafe(SECRET_BYTES)}"
    token = Token(
        id=token_id,
        subject=subject,
        scopes=tuple(dict.fromkeys(scopes)),
        sha256=_digest(text),
        created_at=now,
        expires_at=None if lasts is None else now + lasts,
    )
    with _changing(path) as tokens:
        tokens[token_id] = token
    return text, token


def revoke_token(path: Path, token_id: str) -> Token:
    """Forget a token; who shows it is refused from the next second on. Raises StartupError if there is none."""
    with _changing(path) as tokens:
        if token_id not in tokens:
            raise StartupError(f"there is no token {token_id}: see `tickview token list`")
        return tokens.pop(token_id)


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Token]]:
    """The tokens, to be changed; written as a whole when that is done, by one process at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            tokens = dict(read_tokens(path))
            yield tokens
            _replace(path, _TokensFile(tokens=tuple(tokens.values())).model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from error


def _replace(path: Path, content: str) -> None:
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        # Whoever may read it now, such as the service under another account, still may.
        found = path.stat()
        if (found.st_uid, found.st_gid) != (new.stat().st_uid, new.stat().st_gid):
            os.chown(new, found.st_uid, found.st_gid)
        new.chmod(found.st_mode & 0o777)
    new.replace(path)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
