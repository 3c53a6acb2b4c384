"""The documents of patterns in OpenAPI, derived from the views of the read model."""

from typing import TYPE_CHECKING, Any

from projections.patterns import ActivePatterns
from readapi.read_models.schemas import document_type

COMPACT, FULL = ActivePatterns.views["compact"], ActivePatterns.views["full"]

if TYPE_CHECKING:
    CompactPattern = dict[str, Any]
    FullPattern = dict[str, Any]
else:
    CompactPattern = document_type(ActivePatterns, COMPACT, "CompactPattern")
    FullPattern = document_type(ActivePatterns, FULL, "FullPattern")
