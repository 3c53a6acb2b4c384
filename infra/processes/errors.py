"""The error that ends a command with one line."""

from domain.errors import TickViewError


class StartupError(TickViewError):
    """Something that the command needs is missing or wrong; the message says what, where, and what to do."""
