"""``/api/users/filter-presets``: one's own sets of scan parameters, each under a name, and one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from falcon.asgi import Request, Response
from pydantic import Field, ValidationError
from typing_extensions import TypedDict

from domain.list_rules import MAX_NAME_LENGTH, InvalidListError
from domain.workspace import Workspace
from projections.queries import WorkspaceQueries
from projections.workspaces import PresetRow
from readapi.http.bodies import read_body
from readapi.http.operation import operation
from readapi.http.parameters import Parameters, field_errors
from readapi.http.problems import not_found
from readapi.http.responses import send_private
from readapi.patterns.list_filters import as_query_parameters, read_workspace
from readapi.patterns.scan import ScanParameters
from readapi.ports.read_models import LiveBuild
from readapi.users.list_resource import CREATED, MOST_BYTES, TAG, WRITE_PROBLEMS, ListsResource, expected

PRESET_ID = {"list_id": "The preset's id"}

OF_ONE_SCAN = frozenset({"page", "cursor", "as_of", "as_of_valid", "preset"})
"""Parameters that no preset has: which page is meant, of when, and which preset."""


class PresetContent(Parameters):
    """What a preset is made of."""

    name: Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_NAME_LENGTH})]
    """Unlike those of one's other presets, whatever the case; blanks around it are left off."""
    parameters: dict[str, Any]
    """Parameters of the scan by name, ``page``, ``cursor``, ``as_of``, ``as_of_valid`` and ``preset`` excepted; as JSON
    (``{"rsi_range": [30, 70]}``) or as a query string has them (``"30,70"``)."""
    default: bool = False
    """Whether it is the default from now on, in place of any other."""


class Preset(PresetRow):
    """A preset; ``default`` if it is the one that the user wants to begin with."""

    default: bool


class PresetsAnswer(TypedDict):
    """All of one's presets, in the order of creation."""

    presets: list[Preset]
    count: int


class PresetAnswer(TypedDict):
    """One preset; its ``version`` is its ``ETag``."""

    preset: Preset


def canonical(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a preset as the scan takes them, in JSON; no others than those given. Raises InvalidListError."""
    if foreign := sorted(OF_ONE_SCAN & parameters.keys()):
        raise InvalidListError((f"parameters.{name}", "is of one scan, and of no preset") for name in foreign)
    if split := [name for name, value in parameters.items() if isinstance(value, list) and _has_comma(value)]:
        raise InvalidListError((f"parameters.{name}", "has an item with a comma, which would be two") for name in split)
    try:
        valid = ScanParameters.model_validate(as_query_parameters(parameters))
    except ValidationError as error:
        faults = field_errors(ScanParameters, error)
        raise InvalidListError((f"parameters.{one['field']}", one["reason"]) for one in faults) from error
    return valid.model_dump(mode="json", include=set(parameters))


def _has_comma(items: Sequence[Any]) -> bool:
    return any(isinstance(item, str) and "," in item for item in items)


class PresetsResource(ListsResource):
    """All of one's own."""

    @operation("One's own filter presets", scope="read", responses={200: PresetsAnswer}, reads=True)
    async def on_get(self, req: Request, resp: Response, _query: Parameters, live: LiveBuild[WorkspaceQueries]) -> None:
        """All of them."""
        workspace = await read_workspace(req, live)
        presets = [_shown(preset, workspace.default_preset) for preset in workspace.presets.values()]
        send_private(req, resp, PresetsAnswer(presets=presets, count=len(presets)))

    @operation(
        "Begin a filter preset",
        scope="write",
        responses={201: PresetAnswer},
        body=PresetContent,
        problems=WRITE_PROBLEMS,
        writes=True,
        headers=CREATED,
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters) -> None:
        """The preset, with its id."""
        content = await read_body(req, PresetContent, MOST_BYTES)
        parameters = canonical(content.parameters)
        workspace, list_id = await self.begin(
            req,
            resp,
            lambda workspace, stamp, list_id: workspace.create_preset(
                stamp, list_id, content.name, parameters, default=content.default
            ),
        )
        _send(req, resp, workspace, list_id)


class PresetResource(ListsResource):
    """One of one's own."""

    @operation(
        "One of one's own filter presets",
        scope="read",
        responses={200: PresetAnswer},
        path=PRESET_ID,
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveBuild[WorkspaceQueries], list_id: str
    ) -> None:
        """The preset."""
        workspace = await read_workspace(req, live)
        preset = workspace.presets.get(list_id)
        if preset is None:
            raise not_found(f"preset {list_id!r} of this user")
        answer = PresetAnswer(preset=_shown(preset, workspace.default_preset))
        send_private(req, resp, answer, str(preset["version"]))

    @operation(
        "Give a filter preset another name or other parameters, or make it the default",
        scope="write",
        responses={200: PresetAnswer},
        path=PRESET_ID,
        body=PresetContent,
        problems=(404, 412, *WRITE_PROBLEMS),
        writes=True,
        uses_if_match=True,
        headers=TAG,
    )
    async def on_put(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
        """The preset as it is then."""
        content = await read_body(req, PresetContent, MOST_BYTES)
        parameters, versions = canonical(content.parameters), expected(req)
        workspace = await self.do(
            req,
            resp,
            lambda workspace, stamp: workspace.change_preset(
                stamp, list_id, content.name, parameters, default=content.default, expected=versions
            ),
        )
        _send(req, resp, workspace, list_id)

    @operation(
        "Delete a filter preset",
        scope="write",
        responses={204: None},
        path=PRESET_ID,
        problems=(404, 412, 503),
        writes=True,
        uses_if_match=True,
    )
    async def on_delete(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
        """Nothing."""
        versions = expected(req)
        await self.do(req, resp, lambda workspace, stamp: workspace.delete_preset(stamp, list_id, versions))
        resp.status = 204


def _shown(preset: PresetRow, default: str | None) -> Preset:
    return {**preset, "default": preset["id"] == default}


def _send(req: Request, resp: Response, workspace: Workspace, list_id: str) -> None:
    preset = workspace.presets[list_id]
    shown = {**asdict(preset), "default": workspace.default_preset == list_id}
    send_private(req, resp, {"preset": shown}, str(preset.version))
