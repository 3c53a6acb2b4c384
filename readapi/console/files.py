"""The files of the console, read once and kept in memory, compressed as well."""

import gzip
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "static"
"""Folder of the files."""

PAGE = "index.html"
"""Name of the page. Its relative addresses fit ``/``, ``/docs`` and ``/console``, also under a prefix."""

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""Media types by suffix. Files with other suffixes are not served."""

_IMPORT_MAP = (b'<script type="importmap">', b"</script>")
"""The parts of the page before and after the import map."""


class File(NamedTuple):
    """A file of the console. ``tag`` is its strong entity tag, without quotation marks."""

    media_type: str
    content: bytes
    compressed: bytes
    tag: str


@cache
def console_files() -> dict[str, File]:
    """Return the files by name, which is the path below the folder."""
    return {
        path.relative_to(FOLDER).as_posix(): _read(path)
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    }


def _read(path: Path) -> File:
    content = path.read_bytes()
    # A fixed time makes the compressed bytes equal in every process.
    compressed = gzip.compress(content, 9, mtime=0)
    return File(_MEDIA_TYPES[path.suffix], content, compressed, sha256(content).hexdigest()[:24])


@cache
def security_policy() -> str:
    """Return the Content-Security-Policy of the page.

    Nothing inline is allowed except the import map, which browsers do not load from a file. Its hash admits it.
    """
    before, after = _IMPORT_MAP
    import_map = console_files()[PAGE].content.partition(before)[2].partition(after)[0]
    import_map_hash = b64encode(sha256(import_map).digest()).decode()
    directives = {
        "default-src": "'none'",
        "script-src": f"'self' 'sha256-{import_map_hash}'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())
