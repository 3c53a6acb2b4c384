"""The error that ends a command with a message of one line."""

from domain.errors import TickViewError


class StartupError(TickViewError):
    """A role or a command cannot start. The message says what is wrong, where, and what to do."""


class UnreachableServerError(StartupError):
    """A server cannot be reached now. A later attempt may succeed."""
