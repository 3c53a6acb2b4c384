"""The log of an outage: one line when it begins and one line when it ends, however often a loop retries."""

from typing import Any

import structlog

logger = structlog.get_logger()


class OutageLog:
    """The log of the outages of one loop that retries one operation.

    The text of an error may differ in each attempt, for example in a port number. The log compares the classes
    of the errors: an error of another class is logged, a further error of the same class is not.

    Args:
        failed_event: The text to log, with the error, when the operation begins to fail.
        recovered_event: The text to log when the operation succeeds again.
        context: Keyword arguments to log with both texts.
    """

    def __init__(self, failed_event: str, recovered_event: str, **context: Any) -> None:
        self._failed_event = failed_event
        self._recovered_event = recovered_event
        self._context = context
        self._error_class: type[Exception] | None = None

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt has failed."""
        return self._error_class is not None

    def failed(self, error: Exception) -> None:
        """Record a failed attempt. Log its error if the previous attempt did not fail with the same class of error."""
        if type(error) is not self._error_class:
            logger.warning(self._failed_event, **self._context, error=" ".join(str(error).split()))
        self._error_class = type(error)

    def recovered(self) -> None:
        """Record a successful attempt. Log the end of the outage if the previous attempt failed."""
        if self._error_class is not None:
            logger.info(self._recovered_event, **self._context)
        self._error_class = None
