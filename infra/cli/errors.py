"""The error of a command that cannot do its work."""

from domain.errors import TickViewError


class CommandError(TickViewError):
    """A command cannot do its work. ``tickview`` prints the message in one line and ends with exit code 1."""
