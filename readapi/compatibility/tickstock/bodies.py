"""Bodies as the platform's pages send them, converted to bodies of TickView."""

from collections.abc import Callable
from typing import Any

from readapi.compatibility.tickstock.parameters import forgive, scan_parameters
from readapi.http.parameters import Parameters
from readapi.patterns.list_filters import as_query_parameters
from readapi.patterns.scan_parameters import ScanParameters
from readapi.users.filter_presets import SINGLE_SCAN_PARAMETERS

RENAMED = {"filters": "parameters", "is_default": "default"}
"""Member of the platform -> member of TickView. If a body has both, that of the platform counts."""


def body_converter(model: type[Parameters]) -> Callable[[Any], Any]:
    """Return the function that converts a body. Members that the model does not have are ignored.

    So a list can be sent back as it was read, with its id and its times.
    """

    def convert(body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        renamed = body | {ours: body[theirs] for theirs, ours in RENAMED.items() if theirs in body}
        converted = {name: value for name, value in renamed.items() if name in model.model_fields}
        if isinstance(filters := converted.get("parameters"), dict):
            converted["parameters"] = preset_parameters(filters)
        return converted

    return convert


def preset_parameters(filters: dict[str, Any]) -> dict[str, Any]:
    """Convert the filters of a preset to parameters of a scan."""
    given = {name: value for name, value in filters.items() if value is not None}
    parameters = forgive(ScanParameters, scan_parameters(as_query_parameters(given)))
    return {name: value for name, value in parameters.items() if name not in SINGLE_SCAN_PARAMETERS}
