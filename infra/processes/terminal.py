"""Output to terminals. Texts of others must not control the terminal of an operator.

Control characters begin escape sequences, which move the cursor, set the title, or answer as if the operator had typed.
Bidirectional controls let a text look like another text (CVE-2021-42574).
"""

import re
from collections.abc import Iterable, MutableMapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str) -> str:
    r"""Replace control characters, except tabs and line feeds, by their escapes: ``\x1b``, ``\u202e``."""
    return _CONTROLS.sub(_escape, text)


def escape_controls_in_json(document: bytes) -> bytes:
    """Replace control characters, which JSON allows in strings, by their escapes. The content stays the same."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", document.decode()).encode()


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class TerminalConsole(Console):
    """A console that escapes control characters in all printed texts, and writes only its own escape sequences.

    Args:
        options: The options of ``rich.console.Console``.
    """

    def __init__(self, **options: Any) -> None:
        # Else rich would print the id ``NVDA:Hammer:daily:1`` with the picture of a hammer.
        super().__init__(emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object, with control characters escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_controls(segment.text))


def escape_log_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Escape control characters in the texts of a log line. A processor for structlog."""
    return {name: escape_controls(value) if isinstance(value, str) else value for name, value in event.items()}
