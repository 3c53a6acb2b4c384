"""Errors of the files that grant access to the API."""

from domain.errors import TickViewError


class InvalidFileError(TickViewError, ValueError):
    """The content of a tokens file or of a JWKS file is invalid. The message is a sentence without the path."""


class TokensFileError(TickViewError):
    """A tokens file cannot be read or written, or it does not contain the token in question."""
