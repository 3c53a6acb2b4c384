"""Heads of the hash chains: the last position and hash of each log, which an auditor keeps outside of TickView.

A head file is a JSON document with ``heads`` (``log``, ``position``, ``hash`` and ``recorded_at`` of each log) and
``taken_at``. A signed file also has ``public_key`` (PEM) and ``signature`` (Ed25519, base64). The signature covers the
document without these two fields, as JSON in UTF-8 with sorted keys and without spaces.
"""

from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
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
from infra.archive.errors import AuditError
from infra.archive.months import attached_partitions, partition_name
from infra.archive.ranges import iso_milliseconds
from infra.archive.verification.chain_walk import Progress
from infra.archive.verification.snapshots import snapshot
from infra.archive.verification.verify import LogVerification, verify
from infra.postgres.database import Database
from infra.postgres.statements import load_statements

Signature = Literal["valid", "forged", "another key", "not signed", "not checked: no key is set"]

_statements = load_statements(__package__)
_SELECT_HEADS = _statements["select_heads"]
_SELECT_BEGINNING = _statements["select_beginning"]


class Head(BaseModel):
    """The end of the chain of one log."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    log: str
    position: Annotated[int, Field(ge=1)]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    recorded_at: str


class HeadFile(BaseModel):
    """A head file, as ``tickview audit head --json`` prints it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: Sequence[Head]
    taken_at: str
    public_key: str | None = None
    signature: Annotated[str, Field(pattern="^[A-Za-z0-9+/]{86}==$")] | None = None

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers."""
        document = {"heads": [head.model_dump() for head in self.heads], "taken_at": self.taken_at}
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)

    def document(self) -> dict[str, Any]:
        """Return the file as a JSON document."""
        return self.model_dump(mode="json", exclude_none=True)


class Extension(NamedTuple):
    """Whether today's history of a log extends its head in a head file."""

    log: str
    head: Head | None
    """None: the head file does not name the log."""
    extends: bool
    detail: str

    def document(self) -> dict[str, Any]:
        """Return the result as it is printed."""
        head = self.head.model_dump() if self.head else dict.fromkeys(Head.model_fields)
        return {**head, "log": self.log, "extends": self.extends, "detail": self.detail}


def take_heads(database: Database, now: datetime) -> HeadFile:
    """Return the present heads. The hash of a detached event is the hash that ``tickview.logs`` has.

    Raises:
        AuditError: The last event of a log is not the event that was archived.
    """
    heads = []
    with snapshot(database) as connection:
        attached = attached_partitions(connection)
        for log, position, log_hash, event_hash, recorded_at in connection.execute(
            _SELECT_HEADS, [ARCHIVE, FORMAT_VERSION]
        ):
            if event_hash != log_hash and not (event_hash is None and _is_detached(recorded_at, attached)):
                raise AuditError(
                    f"The last event of {log}, {position}, is not the archived event. Run `tickview audit verify`."
                )
            heads.append(
                Head(log=log, position=position, hash=log_hash.hex(), recorded_at=iso_milliseconds(recorded_at))
            )
    return HeadFile(heads=heads, taken_at=iso_milliseconds(now))


def _is_detached(recorded_at: datetime | None, attached: Collection[str]) -> bool:
    """Return whether the month of an event that is not in the archive is detached. Otherwise the event was removed."""
    return recorded_at is not None and partition_name(recorded_at.astimezone(UTC)) not in attached


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs. Raises AuditError if the file cannot be read or has no Ed25519 key."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuditError(f"TICKVIEW_AUDIT_KEY: no private key can be read from {path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(f"TICKVIEW_AUDIT_KEY: the key in {path} is not an Ed25519 key")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read the key that verifies signatures. The file may have the public key or the private key.

    Raises:
        AuditError: The file cannot be read or has no Ed25519 key.
    """
    try:
        content = path.read_bytes()
        if b"PRIVATE KEY" in content:
            return read_private_key(path).public_key()
        key = load_pem_public_key(content)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise AuditError(f"TICKVIEW_AUDIT_KEY: no public key can be read from {path}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise AuditError(f"TICKVIEW_AUDIT_KEY: the key in {path} is not an Ed25519 key")
    return key


def sign(heads: HeadFile, key: Ed25519PrivateKey) -> HeadFile:
    """Return the heads with a signature."""
    signature = b64encode(key.sign(heads.signed_bytes())).decode()
    return heads.model_copy(update={"public_key": _pem(key.public_key()), "signature": signature})


def read_head_file(path: Path) -> HeadFile:
    """Read and validate a head file. Raises AuditError if it cannot be read or is malformed."""
    try:
        return HeadFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise AuditError(f"{path} is not a head file: {place and place + ': '}{problem['msg']}") from error


def check_signature(heads: HeadFile, key: Ed25519PublicKey | None) -> Signature:
    """Check the signature of a head file with a key, if there is one."""
    if heads.signature is None:
        return "not signed"
    if key is None:
        return "not checked: no key is set"
    try:
        key.verify(b64decode(heads.signature), heads.signed_bytes())
    except InvalidSignature:
        return "forged" if heads.public_key == _pem(key) else "another key"
    return "valid"


def is_accepted(signature: Signature, key: Ed25519PublicKey | None) -> bool:
    """Return whether a head file with this result of the signature check proves anything.

    With a key, only a valid signature counts: otherwise anybody could remove the signature and change the heads.
    """
    return key is None or signature == "valid"


def check_extension(
    database: Database, heads: HeadFile, progress: Progress, since: date | None = None
) -> list[Extension]:
    """Compare heads with the present chains. Each chain is recomputed from its beginning to its present end.

    Args:
        database: The archive.
        heads: The head file.
        progress: A function that is told the progress.
        since: The first month that the archive should have; None: every month.

    Returns:
        A result for each head, and one for each archived log that the head file does not name. Such a log extends the
        file only if the log has no event that is older than the file.

    Raises:
        AuditError: ``taken_at`` of the head file is no time.
    """
    taken_at = _parse_time(heads.taken_at)
    positions = {head.log: [head.position] for head in heads.heads}
    verification = verify(database, progress=progress, head_positions=positions, since=since)
    logs = {log.log: log for log in verification.logs}
    results = [_extension(head, logs.get(head.log)) for head in heads.heads]
    with snapshot(database) as connection:
        for log in verification.logs:
            if log.log not in positions:
                [[beginning]] = connection.execute(_SELECT_BEGINNING, {"log": log.log})
                results.append(_unnamed_log(log, beginning, taken_at))
    return results


def _parse_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise AuditError(f"taken_at of the head file is {text!r}, which is no time in ISO 8601.") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _unnamed_log(log: LogVerification, beginning: datetime | None, taken_at: datetime) -> Extension:
    """Judge a log that the head file does not name, and whose first event was recorded at ``beginning``."""
    if log.finding:
        detail = f"event {log.finding.position} does not fit: {log.finding.kind}: {log.finding.detail}"
        return Extension(log.log, None, False, f"the head file does not name this log, and {detail}")
    if beginning is None:
        return Extension(log.log, None, True, "the log has no events")
    since = iso_milliseconds(beginning)
    if beginning <= taken_at:
        detail = f"the head file does not name this log, which has events since {since}: the file is incomplete"
        return Extension(log.log, None, False, detail)
    return Extension(log.log, None, True, f"the log began after the heads were taken, at {since}")


def _extension(head: Head, log: LogVerification | None) -> Extension:
    if log is None:
        return Extension(head.log, head, False, "the archive has no such log")
    finding = log.finding
    if finding and finding.position <= head.position:
        return Extension(
            head.log, head, False, f"event {finding.position} does not fit: {finding.kind}: {finding.detail}"
        )
    head_hash = log.head_hashes.get(head.position)
    if head_hash is None:
        reason = "the archive ends before it" if (log.last or 0) < head.position else "its month has been detached"
        return Extension(head.log, head, False, f"event {head.position} is not in the archive: {reason}")
    if head_hash.hex() != head.hash:
        detail = f"the history up to the head was changed: event {head.position} now has the hash {head_hash.hex()}"
        return Extension(head.log, head, False, detail)
    if finding:
        detail = f"the events up to {head.position} are unchanged, but event {finding.position} is {finding.kind}"
        return Extension(head.log, head, False, detail)
    return Extension(head.log, head, True, f"{(log.last or head.position) - head.position} events have come since")


def _pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
