"""Logs: one JSON object a line on standard error, or coloured lines where a person reads them."""

import logging
import sys

import structlog
from structlog.typing import EventDict


def configure_logs(level: str, role: str) -> None:
    """Set up logging for a role's process."""

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
