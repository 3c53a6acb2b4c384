"""Logs: one JSON object per line on standard error, or coloured lines if standard error is a terminal."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict

from infra.processes.terminal import escape_log_values

logger = structlog.get_logger()


class UnfailingStream:
    """A text stream that does not raise if it cannot write, so that no role ends because of its logs.

    Lines stay in the buffer of the stream while the disk is full, as far as there is room. They are lost if the reader
    of a pipe has ended.

    Args:
        stream: The stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write text."""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush the buffer."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure_logs(level: str, role: str) -> None:
    """Configure the logs of this process.

    Args:
        level: The lowest level to log: ``debug``, ``info``, ``warning`` or ``error``.
        role: The name of the role, which every line contains.
    """

    def add_role(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {"role": role, **event}

    renderers: list[structlog.types.Processor] = (
        [escape_log_values, structlog.dev.ConsoleRenderer()]
        if sys.stderr.isatty()
        else [structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            add_role,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", UnfailingStream(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class StructlogHandler(logging.Handler):
    """A handler that passes the log records of libraries to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record of a library."""
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


LIBRARY_LOGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"structlog": {"()": StructlogHandler}},
    "root": {"level": "WARNING", "handlers": ["structlog"]},
    "loggers": {
        name: {"level": "WARNING", "handlers": ["structlog"], "propagate": False}
        for name in ("gunicorn.error", "gunicorn.access")
    },
}
"""Configuration for ``logging.config.dictConfig``: the logs of libraries and of gunicorn go to structlog."""
