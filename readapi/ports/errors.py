"""Errors that the ports raise."""

from domain.errors import TickViewError


class UnavailableError(TickViewError):
    """The service cannot do this now; the message says why. Trying again after ``retry_after`` seconds may help."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NoSuchReadModelError(TickViewError, LookupError):
    """There is no read model of this name; the message says which there are."""
