"""The lists of a user as values: watchlists, filter presets and the content of a new preset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class PresetDraft(NamedTuple):
    """The content that a command gives to a preset."""

    name: str
    parameters: Mapping[str, Any]
    """Scan parameters by name."""
    default: bool
    """Whether the preset is to be the user's default preset."""


@dataclass(frozen=True)
class Watchlist:
    """A named list of symbols."""

    id: str
    name: str
    symbols: tuple[str, ...]
    """Symbols in the user's order, 0 to 1,000, without duplicates."""
    created_at: float
    """Time of creation in seconds since the epoch."""
    updated_at: float
    """Time of the last change in seconds since the epoch."""
    version: int = 1
    """Number of changes, from 1 for the creation."""


@dataclass(frozen=True)
class Preset:
    """A named set of scan parameters."""

    id: str
    name: str
    parameters: Mapping[str, Any]
    """Scan parameters by name."""
    created_at: float
    """Time of creation in seconds since the epoch."""
    updated_at: float
    """Time of the last change in seconds since the epoch."""
    version: int = 1
    """Number of changes, from 1 for the creation. Becoming or ceasing to be the default preset is a change."""
