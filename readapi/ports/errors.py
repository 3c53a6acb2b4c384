"""Errors that the ports raise."""

from domain.errors import TickViewError


class UnavailableError(TickViewError):
    """The service cannot do this now. The message gives the reason, without addresses or other secrets.

    Args:
        message: The reason.
        retry_after: Seconds after which another attempt may succeed.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotFoldableError(TickViewError):
    """A command was refused, because no running worker can fold what it would start. The message says what to do."""


class NoSuchReadModelError(TickViewError, LookupError):
    """There is no read model with this name. The message lists the names of the read models."""


class StateConflictError(TickViewError):
    """A command was refused, because it conflicts with the present state. The message says what to do.

    Args:
        kind: The last part of the ``type`` of the problem document.
        message: The conflict, and the action that ends it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
