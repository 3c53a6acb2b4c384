"""Names of tables as settings give them: ``schema.table``, each spelled as the database has it, in quotes or not."""

import re
from collections.abc import Iterable

_PART = r'"(?:[^"]|"")+"|[^".]+'
_PARTS = re.compile(_PART)
_NAME = re.compile(rf"(?:{_PART})(?:\.(?:{_PART}))*")


def parse_table_name(name: str) -> tuple[str, ...]:
    """Schema, where it is named, and table, without the quotes. Raises ValueError for what is no name."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a table: write table or schema.table, and a name with a dot or a quote in it as "
            '"my.table"'
        )
    return tuple(part[1:-1].replace('""', '"') if part[0] == '"' else part for part in _PARTS.findall(name))


def format_table_name(parts: Iterable[str]) -> str:
    """The name of which these are the parts."""
    return ".".join(part if _PARTS.fullmatch(part) and part[0] != '"' else _quoted(part) for part in parts)


def _quoted(part: str) -> str:
    return '"{}"'.format(part.replace('"', '""'))
