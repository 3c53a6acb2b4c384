"""What a loop that tries again and again has to say of it: that something is wrong, once, and that it is over."""

from typing import Any

import structlog

logger = structlog.get_logger()


class OutageLog:
    """Of one loop, and one thing that may be wrong with it.

    Each try finds other words for the same, such as another port, so that errors are told apart by their kind.
    """

    def __init__(self, begins: str, ends: str, **where: Any) -> None:
        self._begins = begins
        self._ends = ends
        self._where = where
        self._kind: type[Exception] | None = None

    @property
    def is_failing(self) -> bool:
        """Whether the last try has failed."""
        return self._kind is not None

    def failed(self, error: Exception) -> None:
        """A try has failed."""
        if type(error) is not self._kind:
            logger.warning(self._begins, **self._where, error=" ".join(str(error).split()))
        self._kind = type(error)

    def recovered(self) -> None:
        """A try has succeeded."""
        if self._kind is not None:
            logger.info(self._ends, **self._where)
        self._kind = None
