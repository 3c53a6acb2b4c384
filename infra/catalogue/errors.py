"""Errors of the synchronization of the catalogue."""

from domain.errors import TickViewError


class CatalogueError(TickViewError):
    """The catalogue cannot be synchronized. Nothing was recorded."""
