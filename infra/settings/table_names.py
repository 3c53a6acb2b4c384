"""Names of tables in settings: ``table`` or ``schema.table``, each part with or without double quotes.

The case of a name must match the database, with or without quotes.
"""

import re
from collections.abc import Iterable

_PART = r'"(?:[^"]|"")+"|[^".]+'
_PARTS = re.compile(_PART)
_NAME = re.compile(rf"(?:{_PART})(?:\.(?:{_PART}))*")


def parse_table_name(name: str) -> tuple[str, ...]:
    """Split a name into its parts without quotes: the table, or the schema and the table.

    Raises:
        ValueError: The text is not the name of a table.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not the name of a table. Write table or schema.table. Quote a part that contains a dot or a "
            'quote: "my.table".'
        )
    return tuple(part[1:-1].replace('""', '"') if part[0] == '"' else part for part in _PARTS.findall(name))


def format_table_name(parts: Iterable[str]) -> str:
    """Join the parts of a name, with quotes where a part needs them."""
    return ".".join(part if _PARTS.fullmatch(part) and part[0] != '"' else _quoted(part) for part in parts)


def _quoted(part: str) -> str:
    return '"{}"'.format(part.replace('"', '""'))
