"""The error that ends a command with one line."""


class StartupError(Exception):
    """Something that the command needs is missing or wrong; the message says what, where, and what to do."""
