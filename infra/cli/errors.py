"""The failures of commands: an error that ends a command, and the exit code of a negative outcome."""

from domain.errors import TickViewError

NEGATIVE_OUTCOME = 3
"""Exit code of a command that did its work with a negative outcome: messages refused, rows or events that differ."""


class CommandError(TickViewError):
    """A command cannot do its work. ``tickview`` prints the message in one line and ends with exit code 1."""
