"""Signed heads that a schedule writes to a file or URL, out of the reach of those who can write to PostgreSQL.

A file is replaced only by heads of a history that extends the heads in the file. The receiver of a URL must keep every
version by itself, because nothing is read from there.
"""

import os
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import orjson

from infra.archive.errors import AuditError
from infra.archive.verification.heads import (
    check_signature,
    is_accepted,
    read_head_file,
    read_private_key,
    read_public_key,
    sign,
    take_heads,
)
from infra.archive.verification.kept_heads import HeadSource, KeptHead
from infra.postgres.database import Database

SEND_SECONDS = 10.0
"""Seconds that the server of a URL may take to accept heads."""


def is_url(target: str) -> bool:
    """Return whether heads are sent to a URL, and not written to a file."""
    return target.startswith(("https://", "http://"))


def read_published_heads(target: str, key: Path) -> HeadSource:
    """Read the heads in a file. A file without a valid signature is a finding, and a missing file a note.

    Args:
        target: The file or URL of ``TICKVIEW_AUDIT_HEADS``.
        key: The PEM file of the key that signs the heads.

    Raises:
        AuditError: The key cannot be read.
    """
    origin = _origin(target)
    if is_url(target):
        return HeadSource(origin, note="heads are only sent to a URL, and not read from there")
    if not Path(target).exists():
        return HeadSource(origin, note="the file does not exist: no heads have been written yet, or it was removed")
    public_key = read_public_key(key)
    try:
        head_file = read_head_file(Path(target))
    except AuditError as error:
        return HeadSource(origin, finding=str(error))
    signature = check_signature(head_file, public_key)
    if not is_accepted(signature, public_key):
        return HeadSource(origin, finding=f"the signature of the heads is not valid: {signature}")
    return HeadSource(origin, [KeptHead(head.log, head.position, bytes.fromhex(head.hash)) for head in head_file.heads])


def publish_heads(database: Database, target: str, key: Path) -> None:
    """Take the present heads, sign them, and write them to a file or send them to a URL.

    Raises:
        AuditError: The heads cannot be taken or signed, the file cannot be written, or the server refuses the heads.
            The message contains no secret of the URL.
        ArchiveUnavailableError: PostgreSQL cannot be reached.
    """
    heads = sign(take_heads(database, datetime.now(UTC)), read_private_key(key))
    content = orjson.dumps(heads.document(), option=orjson.OPT_INDENT_2) + b"\n"
    try:
        if is_url(target):
            _send(target, content)
        else:
            _write(Path(target), content)
    except HTTPError as error:
        error.close()
        raise AuditError(f"the heads were not written: {_origin(target)} answers {error.code}") from error
    except OSError as error:
        raise AuditError(f"the heads were not written to {_origin(target)}: {error.strerror or error}") from error


def _send(url: str, content: bytes) -> None:
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json"}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = f"Basic {b64encode(credentials).decode()}"
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = Request(address, content, headers, method="PUT")  # noqa: S310 see is_url
    with urlopen(request, timeout=SEND_SECONDS):  # noqa: S310
        pass


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _origin(target: str) -> str:
    """Return the file, or the URL without user, password and query, which may be secret."""
    if not is_url(target):
        return target
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
