"""The heads of the chains: what somebody outside keeps, to hold us to our history.

A head file is a JSON document: ``heads`` (of each log its ``log``, ``position``, ``hash`` and ``recorded_at``) and
``taken_at``; where it is signed also ``public_key`` (PEM) and ``signature`` (Ed25519, in base64) over the document
without these two, written as JSON in UTF-8 with sorted keys and without spaces.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.ranges import iso_milliseconds
from infra.archive.verification.chain_walk import Progress
from infra.archive.verification.verify import LogVerification, snapshot, verify
from infra.postgres.database import Database
from infra.processes.errors import StartupError

Signature = Literal["valid", "forged", "another key", "not signed", "not checked: no key is set"]

REJECTED_SIGNATURES: tuple[Signature, ...] = ("forged", "another key")
"""Signatures that prove something against the file."""

_HEADS = """
SELECT segments.log, segments.position, logs.hash, events.hash, events.recorded_at
FROM tickview.segments JOIN tickview.logs USING (log) LEFT JOIN tickview.events USING (log, position)
WHERE segments.name = %s AND segments.version = %s AND segments.position > 0 ORDER BY segments.log
"""


class Head(BaseModel):
    """The end of the chain of one log."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    log: str
    position: Annotated[int, Field(ge=1)]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    recorded_at: str


class HeadFile(BaseModel):
    """What ``tickview audit head --json`` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: Sequence[Head]
    taken_at: str
    public_key: str | None = None
    signature: Annotated[str, Field(pattern="^[A-Za-z0-9+/]{86}==$")] | None = None

    def signed_bytes(self) -> bytes:
        """What the signature is made over."""
        document = {"heads": [head.model_dump() for head in self.heads], "taken_at": self.taken_at}
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)

    def document(self) -> dict[str, Any]:
        """The document."""
        return self.model_dump(mode="json", exclude_none=True)


class Extension(NamedTuple):
    """Whether today's history of a log extends a head."""

    head: Head
    extends: bool
    detail: str


def take_heads(database: Database, now: datetime) -> HeadFile:
    """The heads as they are. Raises StartupError where the archive contradicts itself."""
    heads = []
    with snapshot(database) as connection:
        for log, position, hash_, own, recorded_at in connection.execute(_HEADS, [ARCHIVE, FORMAT_VERSION]):
            if own != hash_:
                raise StartupError(
                    f"the last event of {log}, {position}, is not what was archived: see `tickview audit verify`"
                )
            heads.append(Head(log=log, position=position, hash=own.hex(), recorded_at=iso_milliseconds(recorded_at)))
    return HeadFile(heads=heads, taken_at=iso_milliseconds(now))


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The key that signs. Raises StartupError for a file that has none."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StartupError(f"TICKVIEW_AUDIT_KEY: {path} has no private key that can be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StartupError(f"TICKVIEW_AUDIT_KEY: the key in {path} is not an Ed25519 key")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The key that checks: that of the file, or the public half of it. Raises StartupError for a file that has none."""
    try:
        content = path.read_bytes()
        if b"PRIVATE KEY" in content:
            return read_private_key(path).public_key()
        key = load_pem_public_key(content)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise StartupError(f"TICKVIEW_AUDIT_KEY: {path} has no public key that can be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StartupError(f"TICKVIEW_AUDIT_KEY: the key in {path} is not an Ed25519 key")
    return key


def sign(heads: HeadFile, key: Ed25519PrivateKey) -> HeadFile:
    """The heads with a signature."""
    signature = b64encode(key.sign(heads.signed_bytes())).decode()
    return heads.model_copy(update={"public_key": _pem(key.public_key()), "signature": signature})


def read_head_file(path: Path) -> HeadFile:
    """Raises StartupError for a file that is none."""
    try:
        return HeadFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise StartupError(f"{path} is no head file: {place and place + ': '}{problem['msg']}") from error


def check_signature(heads: HeadFile, key: Ed25519PublicKey | None) -> Signature:
    """What is to be thought of the signature."""
    if heads.signature is None:
        return "not signed"
    if key is None:
        return "not checked: no key is set"
    try:
        key.verify(b64decode(heads.signature), heads.signed_bytes())
    except InvalidSignature:
        return "forged" if heads.public_key == _pem(key) else "another key"
    return "valid"


def check_extension(database: Database, heads: HeadFile, progress: Progress) -> list[Extension]:
    """Recompute the chain of each log from its beginning, through its head, to its end today."""
    marks = {head.log: head.position for head in heads.heads}
    found = {log.log: log for log in verify(database, progress=progress, marks=marks).logs}
    return [_extension(head, found.get(head.log)) for head in heads.heads]


def _extension(head: Head, found: LogVerification | None) -> Extension:
    if found is None:
        return Extension(head, False, "the archive has no such log")
    misfit = found.misfit
    if misfit and misfit.position <= head.position:
        return Extension(head, False, f"event {misfit.position} does not fit: {misfit.kind}: {misfit.detail}")
    if found.marked is None:
        why = "the archive ends before it" if (found.last or 0) < head.position else "it has been detached since"
        return Extension(head, False, f"event {head.position} is not in the archive: {why}")
    if found.marked.hex() != head.hash:
        return Extension(head, False, f"the history up to there is another: its hash is {found.marked.hex()}")
    if misfit:
        return Extension(head, False, f"as it was up to there; behind it, event {misfit.position}: {misfit.kind}")
    return Extension(head, True, f"{(found.last or head.position) - head.position} events have come since")


def _pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
