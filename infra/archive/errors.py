"""Errors of audits."""

from domain.errors import TickViewError


class AuditError(TickViewError):
    """An audit cannot be carried out: a log, a key, a head file or a library is missing or wrong."""
