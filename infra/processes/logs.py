"""Logs: one JSON object per line on standard error, or coloured lines if standard error is a terminal."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict

logger = structlog.get_logger()


def configure_logs(level: str, role: str) -> None:
    """Configure the logs of this process.

    Args:
        level: The lowest level to log: ``debug``, ``info``, ``warning`` or ``error``.
        role: The name of the role, which every line contains.
    """

    def add_role(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {"role": role, **event}

    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            add_role,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
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
