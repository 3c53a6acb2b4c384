"""Parameters as the pages of the platform send them, converted to parameters of TickView. Pure functions."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from readapi.http.parameters import Parameters

QueryParameters = Mapping[str, str | list[str]]
"""Query parameters as text, before validation."""

RENAMED = {"limit": "per_page", "tier": "timeframe", "sector": "sectors", "symbol": "symbols", "sort": "sort_by"}
"""Parameter of the platform's scan -> parameter of TickView's scan."""

LISTS = frozenset(("pattern_types", "symbols", "sectors", "universe", "timeframe"))
"""Filters by values. The value ``all`` stands for no filter, except in ``symbols``: ``ALL`` is a symbol."""

SORT_KEYS = {
    "timestamp": "detected_at",
    "time": "detected_at",
    "conf": "confidence",
    "relative_strength": "rs",
    "vol": "volume",
    "relative_volume": "volume",
}
"""Sort key of the platform -> sort key of TickView's scan, where they differ."""

FORGIVEN = frozenset(
    ("confidence_min", "rs_min", "vol_min", "rsi_range", "sort_by", "sort_order", "page", "per_page", "limit", "days")
)
"""Parameters whose invalid values give way to the nearest valid value, or else to the default."""


def scan_parameters(given: QueryParameters) -> dict[str, str | list[str]]:
    """Convert the parameters of the platform's scan.

    Parameters without a value have no effect, and neither has a filter with the value ``all``.
    """
    converted: dict[str, str | list[str]] = {}
    for name, value in present_parameters(given).items():
        renamed = RENAMED.get(name, name)
        if renamed in LISTS:
            values = _listed(value)
            if values and (renamed == "symbols" or not any(each.lower() == "all" for each in values)):
                converted[renamed] = [*_texts(converted.get(renamed, [])), *values]
        elif renamed == "sort_by":
            converted = _sorting(_texts(value)[-1]) | converted
        else:
            converted[renamed] = value
    return converted


def present_parameters(given: QueryParameters) -> dict[str, str | list[str]]:
    """Return the parameters that have a value."""
    return {name: value for name, value in given.items() if any(text.strip() for text in _texts(value))}


def forgive(model: type[Parameters], given: QueryParameters) -> dict[str, str | list[str]]:
    """Make parameters valid where that changes no filter by values: ignore, clamp, or take the default.

    Unknown parameters are ignored. Of a single value that is given several times, the last one counts. A number beyond
    a bound becomes the bound. Any other invalid value of ``FORGIVEN`` is ignored. All other errors remain.
    """
    parameters = {name: value for name, value in given.items() if name in model.model_fields}
    for _ in range(2):  # The last one of several values may be out of bounds.
        try:
            model.model_validate(parameters)
        except ValidationError as error:
            _forgive_errors(parameters, error.errors(include_url=False))
        else:
            break
    return parameters


def _forgive_errors(parameters: dict[str, str | list[str]], errors: Iterable[ErrorDetails]) -> None:
    for error in errors:
        name = str(error["loc"][0]) if error["loc"] else ""
        if name not in FORGIVEN or name not in parameters:
            continue
        value = parameters[name]
        bound = _bound(error)
        if isinstance(value, list):
            parameters[name] = value[-1]
        elif bound is not None:
            parameters[name] = str(bound)
        else:
            del parameters[name]


def _bound(error: ErrorDetails) -> Any:
    """Return the bound that a number exceeds. None: it exceeds no bound."""
    context = error.get("ctx", {})
    return context.get("ge", context.get("le")) if len(error["loc"]) == 1 else None


def _texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _listed(value: str | list[str]) -> list[str]:
    """Return the values of a filter, which may be separated by commas, without empty ones."""
    return [part.strip() for text in _texts(value) for part in text.split(",") if part.strip()]


def _sorting(text: str) -> dict[str, str | list[str]]:
    """Convert ``timestamp_desc`` or ``timestamp`` to a sort key, and a sort order if the text names it."""
    key, separator, order = text.strip().lower().rpartition("_")
    if not separator or order not in ("asc", "desc"):
        key, order = text.strip().lower(), ""
    sort_by = SORT_KEYS.get(key, key)
    return {"sort_by": sort_by, "sort_order": order} if order else {"sort_by": sort_by}
