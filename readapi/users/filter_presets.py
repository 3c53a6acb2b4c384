"""Filter presets: the bodies and documents of ``/api/users/filter-presets``, and the rules for scan parameters."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError
from typing_extensions import TypedDict

from domain.list_rules import MAX_NAME_LENGTH, ExpectedVersions, InvalidListError
from domain.lists import PresetDraft
from domain.workspace import Workspace
from projections.workspaces import PresetRow, WorkspaceRow
from readapi.http.parameters import Parameters, field_errors
from readapi.http.problems import Problem
from readapi.patterns.list_filters import as_query_parameters
from readapi.patterns.scan_parameters import ScanParameters
from readapi.users.list_kind import ListCommand, ListKind

SINGLE_SCAN_PARAMETERS = frozenset({"page", "cursor", "as_of", "as_of_valid", "preset"})
"""Scan parameters that a preset cannot contain, because they apply to a single scan."""


class PresetContent(Parameters):
    """A new filter preset, or the whole new content of a filter preset."""

    name: Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_NAME_LENGTH})]
    """Name of the preset. No other preset of the user may have this name; case does not matter. Leading
    and trailing blanks are removed."""
    parameters: dict[str, Any]
    """Scan parameters by name, as JSON (``{"rsi_range": [30, 70]}``) or in the form of a query string (``"30,70"``).
    ``page``, ``cursor``, ``as_of``, ``as_of_valid`` and ``preset`` are not allowed."""
    default: bool = False
    """Whether this preset becomes the user's default preset and replaces any other default."""


class Preset(PresetRow):
    """A filter preset. ``default`` is true if the preset is the user's default."""

    default: bool


class PresetCollection(TypedDict):
    """The filter presets of the user in order of creation. ``count`` is their number."""

    presets: list[Preset]
    count: int


class PresetDocument(TypedDict):
    """One filter preset. Its ``version`` is the value of the ``ETag``."""

    preset: Preset


def normalize_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Validate the parameters of a preset and convert them to the JSON form that the scan reads.

    Returns:
        The given parameters only: no defaults are added.

    Raises:
        InvalidListError: A parameter is not a scan parameter, has an invalid value or applies to a single scan, or two
            parameters contradict each other.
    """
    if refused := sorted(SINGLE_SCAN_PARAMETERS & parameters.keys()):
        raise InvalidListError(
            (f"parameters.{name}", "applies to a single scan and cannot be part of a preset") for name in refused
        )
    normalized = _scan_parameters(parameters).model_dump(mode="json", include=set(parameters))
    if split := [name for name, value in parameters.items() if _is_split(value, normalized[name])]:
        raise InvalidListError(
            (f"parameters.{name}", "has an item with a comma, which the scan would read as two items") for name in split
        )
    # The scan reads the stored form, whose lists can have more values.
    _scan_parameters(normalized)
    return normalized


def _scan_parameters(parameters: Mapping[str, Any]) -> ScanParameters:
    """Validate parameters as the scan does, with their filters. Raises InvalidListError."""
    try:
        valid = ScanParameters.model_validate(as_query_parameters(parameters))
        valid.filters(None)
    except ValidationError as error:
        errors = field_errors(ScanParameters, error)
    except Problem as problem:
        errors = list(problem.errors)
    else:
        return valid
    raise InvalidListError((f"parameters.{each['field']}", each["reason"]) for each in errors)


def _is_split(value: Any, normalized: Any) -> bool:
    """Return whether a list has an item with a comma that is no item of the normalized list."""
    if not isinstance(value, list):
        return False
    items = {item.casefold() for item in value if isinstance(item, str) and "," in item}
    return not items <= {item.casefold() for item in normalized if isinstance(item, str)}


def _render(row: Mapping[str, Any], workspace: Workspace | WorkspaceRow) -> Mapping[str, Any]:
    return {**row, "default": row["id"] == workspace.default_preset}


def _create(body: PresetContent) -> ListCommand:
    draft = PresetDraft(body.name, normalize_parameters(body.parameters), body.default)
    return lambda workspace, stamp, list_id: workspace.create_preset(stamp, list_id, draft)


def _update(body: PresetContent, expected: ExpectedVersions | None) -> ListCommand:
    draft = PresetDraft(body.name, normalize_parameters(body.parameters), body.default)
    return lambda workspace, stamp, list_id: workspace.change_preset(stamp, list_id, draft, expected)


def _delete(expected: ExpectedVersions | None) -> ListCommand:
    return lambda workspace, stamp, list_id: workspace.delete_preset(stamp, list_id, expected)


PRESETS = ListKind(
    noun="preset",
    label="filter preset",
    document=PresetDocument,
    collection_document=PresetCollection,
    create_body=PresetContent,
    update_body=PresetContent,
    update_summary="Replace the name and the parameters of a filter preset.",
    rows=lambda workspace: workspace.presets,
    render=_render,
    create=_create,
    update=_update,
    delete=_delete,
)
