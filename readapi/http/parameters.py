"""Query parameters: from the query string to a pydantic model, or a problem that names every fault.

Nothing is changed silently: a value is taken as it is, in the ways written here, or refused.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails

from domain.symbols import SYMBOL_PATTERN, SYMBOL_RULE
from readapi.http.problems import FieldError, invalid

MOST_VALUES = 100
"""Of one list."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?"
)
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")

_short = Repr()
_short.maxstring = 48


class Parameters(BaseModel):
    """Base of an operation's parameters; also those of an operation that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _as_number(value: object) -> object:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError("should be a number")
    return value


def as_whole_number(value: object) -> object:
    """A text only if it is a whole number, as a pydantic validator has it."""
    if isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(value):
        raise ValueError("should be a whole number")
    return value


def _as_list(value: object) -> object:
    """``a,b`` and ``a`` repeated with ``b`` are the same list."""
    given = [value] if isinstance(value, str) else value
    return [item for one in given for item in one.split(",")] if isinstance(given, list) else given


def _as_range(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("should be low,high")
    return [_as_number(part) for part in value.split(",")]


def _as_moment(value: object) -> object:
    """Epoch seconds, from a number or from ISO 8601."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    try:
        return parse_iso_8601(value)
    except ValueError as error:
        raise ValueError(f"{error}; or epoch seconds") from None


def parse_iso_8601(value: str) -> float:
    """The epoch seconds of a time in ISO 8601, in UTC if it names no zone. Raises ValueError."""
    if " " in value.strip():
        raise ValueError("should have a T between date and time, and a + written as %2B, which else is a space")
    if not _ISO_8601.fullmatch(value):
        raise ValueError("should be a time such as 2026-11-25T09:00:00Z, or a date")
    time = datetime.fromisoformat(value)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("should be the lower bound, then the higher")
    return bounds


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_as_number)]

# The replacement character stands where the query string was not UTF-8.
NAME_PATTERN = "^[^,\\x00-\\x1f\\x7f\\ufffd]{1,64}$"
LONG_NAME_PATTERN = "^[^\\x00-\\x1f\\x7f\\ufffd]{1,200}$"
_PATTERNS = {
    NAME_PATTERN: "should be 1 to 64 printable characters",
    LONG_NAME_PATTERN: "should be 1 to 200 printable characters",
    SYMBOL_PATTERN: SYMBOL_RULE,
}

_TYPES = dict.fromkeys(("model_type", "dict_type"), "should be an object")
"""What pydantic says of these is in Python's words."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
LongName = Annotated[str, StringConstraints(pattern=LONG_NAME_PATTERN)]
TierName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, to_lower=True)]
Symbol = Annotated[str, StringConstraints(pattern=SYMBOL_PATTERN, to_upper=True)]

Item = TypeVar("Item")
ListOf = Annotated[tuple[Item, ...], Field(min_length=1, max_length=MOST_VALUES), BeforeValidator(_as_list)]
"""Repeated, comma-separated, or both."""

Range = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]],
    BeforeValidator(_as_range),
    AfterValidator(_in_order),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "format": "ascending"}),
]
"""``low,high``."""

Moment = Annotated[
    Annotated[float, Field(ge=0, lt=253402300800, allow_inf_nan=False)],
    BeforeValidator(_as_moment),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "format": "moment"}]}),
]
"""Epoch seconds, given as such or in ISO 8601, in UTC if no zone is named; up to the year 9999."""

SortOrder = Literal["asc", "desc"]
PageNumber = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(as_whole_number)]
PageSize = Annotated[int, Field(ge=1, le=100), BeforeValidator(as_whole_number)]
Days = Annotated[int, Field(ge=1, le=90), BeforeValidator(as_whole_number)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_as_number)]

Model = TypeVar("Model", bound=Parameters)


def parse(model: type[Model], given: Mapping[str, str | list[str]]) -> Model:
    """The parameters that were given. Raises Problem (400)."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(field_errors(model, error)) from error


def field_errors(model: type[Parameters], error: ValidationError, whole: str = "") -> list[FieldError]:
    """What is wrong with each field; ``whole`` names what the fields are of."""
    errors = error.errors(include_url=False)
    within = {one["loc"][:-1] for one in errors}
    # A list of which no item is right is not too short, too.
    faults = [one for one in errors if not (one["type"] == "too_short" and one["loc"] in within)]
    return [_field_error(model, one, whole) for one in faults]


def field_name(location: Sequence[int | str]) -> str:
    """``symbols[3]`` or ``payload.data``, as people write it."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def error_reason(error: ErrorDetails) -> str:
    """Pydantic's message as the end of a sentence that begins with the field's name."""
    pattern = error.get("ctx", {}).get("pattern", "")
    message = _PATTERNS.get(pattern) or _TYPES.get(error["type"]) or error["msg"]
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return f"{message[0].lower()}{message[1:]}, and is {_short.repr(error['input'])}"


def _field_error(model: type[Parameters], error: ErrorDetails, whole: str) -> FieldError:
    name = field_name(error["loc"]) or whole
    if error["type"] == "extra_forbidden":
        known = ", ".join(about.alias or name for name, about in model.model_fields.items()) or "none"
        return {"field": name, "reason": f"is not a parameter here; known: {known}"}
    if isinstance(error["input"], list) and len(error["loc"]) == 1 and error["type"] != "too_long":
        return {"field": name, "reason": f"is given {len(error['input'])} times; give it once"}
    return {"field": name, "reason": error_reason(error)}


def optional_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that may be left out: absence is no value, so null is not one either."""
    described = {name: value for name, value in schema.items() if name not in ("title", "anyOf")}
    values = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if schema.get("default", ...) is None:
        del described["default"]
    return {**(values[0] if len(values) == 1 else {"anyOf": values} if values else {}), **described}
