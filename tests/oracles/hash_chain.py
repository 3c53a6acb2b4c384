"""The hash chain of archived events, computed independently from its description in ``docs/archive.md``."""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any


def chain_hashes(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Compute the hashes of the rows of one log. A row has all columns of ``tickview.events``; positions begin at 1."""
    hashes, last = [], bytes(32)
    for log, position, recorded_at, stream, version, topic, event_id, source, correlation, origin, state, _ in rows:
        since_2000 = round((recorded_at - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
        content = last
        for value in (log, position, since_2000, stream, version, topic, event_id, source, correlation, origin, state):
            if value is None:
                content += struct.pack(">i", -1)
            elif isinstance(value, int):
                content += struct.pack(">iq", 8, value)
            else:
                data = value.encode() if isinstance(value, str) else value
                content += struct.pack(">i", len(data)) + data
        last = sha256(content).digest()
        hashes.append(last)
    return hashes
