"""Query parameters: types of values, and the validation of a query string against a pydantic model.

A value is converted only in the ways that the types of this module define. A request with any other value is refused
with a problem that names every wrong field.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar, cast

from falcon.uri import parse_query_string
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
    create_model,
)
from pydantic_core import CoreSchema, ErrorDetails

from domain.symbols import SYMBOL_PATTERN, SYMBOL_RULE
from readapi.http.field_docstrings import field_docstrings
from readapi.http.problems import FieldError, invalid

MAX_VALUES = 100
"""Highest number of values in one list."""

MAX_REMEMBERED = 1_000
"""Highest number of query strings whose valid parameters are remembered."""

MAX_REMEMBERED_LENGTH = 1_000
"""Highest number of characters of such a query string."""

YEAR_10_000 = 253_402_300_800
"""The beginning of the year 10000, in epoch seconds."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?"
)
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")

_COMMA = "\ue000"
"""A private character that stands for a comma while a text is validated."""

_short_repr = Repr()
"""Represents refused values. It shortens long values."""
_short_repr.maxstring = 48


class Parameters(BaseModel):
    """Base class for parameters and bodies, and the parameters of an operation without parameters."""

    # A process validates the parameters of few operations: their validators are built by the first request.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON schema, with the docstrings of the attributes as descriptions."""
        described = handler(schema)
        properties = handler.resolve_ref_schema(described).get("properties", {})
        for name, docstring in field_docstrings(cls).items():
            properties[cls.model_fields[name].alias or name].setdefault("description", docstring)
        return described


ParametersType = TypeVar("ParametersType", bound=Parameters)


def derive_parameters(
    base: type[ParametersType], name: str, fields: Mapping[str, tuple[Any, Any]]
) -> type[ParametersType]:
    """Create a model with further parameters.

    Args:
        base: The model with the common parameters.
        name: The name of the new model.
        fields: The name of each further parameter with its type and its default or ``Field``.
    """
    model: type[ParametersType] = create_model(name, __base__=base, **cast("Any", fields))
    return model


def _check_number(value: object) -> object:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError("should be a number")
    return value


def check_whole_number(value: object) -> object:
    """Raise ValueError for a ``str`` that is not a whole number. For use as a pydantic ``BeforeValidator``."""
    if isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(value):
        raise ValueError("should be a whole number")
    return value


def _split_list(value: object) -> object:
    """Split comma-separated values. ``x=a,b`` and ``x=a&x=b`` are the same list. A tuple is split already."""
    values = [value] if isinstance(value, str) else value
    return [item for text in values for item in text.split(",")] if isinstance(values, list) else values


def _with_whole_texts(value: object, validate: Callable[[object], tuple[str, ...]]) -> tuple[str, ...]:
    """Validate a list. Add the given texts with a comma that may be values themselves.

    These are the texts of a repeated parameter, and a text with a blank beside a comma.
    """
    if not isinstance(value, str | list):
        return validate(value)
    parts = tuple(dict.fromkeys(validate(value)))
    if isinstance(value, str) and ", " not in value and " ," not in value:
        return parts
    wholes: list[str] = []
    for text in [value] if isinstance(value, str) else dict.fromkeys(cast("list[str]", value)):
        if "," in text and (text is not value or ", " in text or " ," in text):
            with suppress(ValidationError):
                # The type of the items allows no comma, which separates them.
                wholes += (item.replace(_COMMA, ",") for item in validate((text.replace(",", _COMMA),)))
    return (*parts, *wholes[: max(0, MAX_VALUES - len(parts))])


def _split_range(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("should be low,high")
    return [_check_number(part) for part in value.split(",")]


def _parse_moment(value: object) -> object:
    """Convert ISO 8601 to epoch seconds. Pass a number on."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    try:
        return parse_iso_8601(value)
    except ValueError as error:
        raise ValueError(f"{error}; or epoch seconds") from None


def parse_iso_8601(value: str) -> float:
    """Convert a time in ISO 8601 to epoch seconds. A time without a zone is in UTC. Digits after microseconds are cut.

    Raises:
        ValueError: The text is not a time in the supported form of ISO 8601.
    """
    if " " in value.strip():
        raise ValueError("should have a T between date and time, and a + encoded as %2B (a plain + is a space)")
    if not _ISO_8601.fullmatch(value):
        raise ValueError("should be a time such as 2026-11-25T09:00:00Z, or a date")
    time = datetime.fromisoformat(value)
    seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if seconds >= YEAR_10_000:  # by its zone
        raise ValueError("should be before the year 10000 in UTC")
    return seconds


def _check_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("should be the lower bound followed by the higher bound")
    return bounds


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_check_number)]

# U+FFFD, the replacement character, marks bytes of the query string that are not UTF-8.
NAME_PATTERN = "^[^,\\x00-\\x1f\\x7f\\ufffd]{1,64}$"
LONG_NAME_PATTERN = "^[^\\x00-\\x1f\\x7f\\ufffd]{1,200}$"
LISTED_SYMBOL_PATTERN = SYMBOL_PATTERN.replace("[^", "[^,")
LISTED_KEY_PATTERN = "^[^,\\x00-\\x1f\\x7f\\ufffd]{1,200}$"
_PATTERN_RULES = {
    NAME_PATTERN: "should be 1 to 64 printable characters",
    LONG_NAME_PATTERN: "should be 1 to 200 printable characters",
    LISTED_KEY_PATTERN: "should be 1 to 200 printable characters",
    LISTED_SYMBOL_PATTERN: SYMBOL_RULE,
}

_TYPE_RULES = dict.fromkeys(("model_type", "dict_type"), "should be an object")
"""Replacements for messages of pydantic that use terms of Python."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
LongName = Annotated[str, StringConstraints(pattern=LONG_NAME_PATTERN)]
ListedKey = Annotated[str, StringConstraints(pattern=LISTED_KEY_PATTERN)]
"""The key of a row in a list of keys."""
TierName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, to_lower=True)]
Symbol = Annotated[str, StringConstraints(pattern=LISTED_SYMBOL_PATTERN, to_upper=True)]
"""A symbol in the form that filters compare. A text with unprintable characters is the symbol of no row."""

Item = TypeVar("Item")
ListOf = Annotated[tuple[Item, ...], Field(min_length=1, max_length=MAX_VALUES), BeforeValidator(_split_list)]
"""A list of values: repeated, comma-separated, or both."""
TextsOf = Annotated[ListOf[Item], WrapValidator(_with_whole_texts)]
"""A list of texts that may contain commas. In a repeated parameter, a text with a comma also stands for itself."""

Range = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]],
    BeforeValidator(_split_range),
    AfterValidator(_check_order),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "format": "ascending"}),
]
"""A range: ``low,high``, both included."""

Moment = Annotated[
    Annotated[float, Field(ge=0, lt=YEAR_10_000, allow_inf_nan=False)],
    BeforeValidator(_parse_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": YEAR_10_000},
                {"type": "string", "format": "moment"},
            ]
        }
    ),
]
"""A time up to the year 9999, in epoch seconds or in ISO 8601. A time without a zone is in UTC."""

SortOrder = Literal["asc", "desc"]
PageNumber = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(check_whole_number)]
PageSize = Annotated[int, Field(ge=1, le=100), BeforeValidator(check_whole_number)]
Days = Annotated[int, Field(ge=1, le=90), BeforeValidator(check_whole_number)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_check_number)]

Model = TypeVar("Model", bound=Parameters)


def parse_parameters(model: type[Model], parameters: Mapping[str, str | list[str]]) -> Model:
    """Validate the parameters of a query string. Raises Problem (400)."""
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        raise invalid(field_errors(model, error)) from error


@lru_cache(maxsize=MAX_REMEMBERED)
def _remembered(model: type[Model], query_string: str) -> Model:
    return parse_parameters(model, parse_query_string(query_string, keep_blank=True))


def parse_query(model: type[Model], query_string: str) -> Model:
    """Validate a query string, and remember the result. Raises Problem (400), which is not remembered."""
    validate = _remembered if len(query_string) <= MAX_REMEMBERED_LENGTH else _remembered.__wrapped__
    valid: Model = validate(model, query_string)
    return valid


def field_errors(model: type[Parameters], error: ValidationError, root: str = "") -> list[FieldError]:
    """Describe each error of a validation.

    Args:
        model: The model that refused the values.
        error: The error of pydantic.
        root: The field's name for an error that concerns the value as a whole, such as ``body``.
    """
    errors = error.errors(include_url=False)
    parents = {each["loc"][:-1] for each in errors}
    # Pydantic drops wrong items and may then also call their list too short.
    relevant = [each for each in errors if not (each["type"] == "too_short" and each["loc"] in parents)]
    return [_field_error(model, each, root) for each in relevant]


def field_name(location: Sequence[int | str]) -> str:
    """Format the location of a value: ``symbols[3]``, ``payload.data``."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def error_reason(error: ErrorDetails) -> str:
    """Convert pydantic's message to the end of a sentence that begins with the field's name."""
    pattern = error.get("ctx", {}).get("pattern", "")
    message = _PATTERN_RULES.get(pattern) or _TYPE_RULES.get(error["type"]) or error["msg"]
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return f"{message[0].lower()}{message[1:]}, and is {_short_repr.repr(error['input'])}"


def _field_error(model: type[Parameters], error: ErrorDetails, root: str) -> FieldError:
    name = field_name(error["loc"]) or root
    if error["type"] == "extra_forbidden":
        known = ", ".join(info.alias or name for name, info in model.model_fields.items()) or "none"
        return {"field": name, "reason": f"is not a known parameter; known: {known}"}
    if isinstance(error["input"], list) and len(error["loc"]) == 1 and error["type"] != "too_long":
        return {"field": name, "reason": f"is given {len(error['input'])} times; give it once"}
    return {"field": name, "reason": error_reason(error)}


def optional_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from the schema of an optional parameter. A query string cannot contain null."""
    keywords = {name: value for name, value in schema.items() if name not in ("title", "anyOf")}
    variants = [variant for variant in schema.get("anyOf", ()) if variant != {"type": "null"}]
    if schema.get("default", ...) is None:
        del keywords["default"]
    if not variants:
        return keywords
    return {**(variants[0] if len(variants) == 1 else {"anyOf": variants}), **keywords}
