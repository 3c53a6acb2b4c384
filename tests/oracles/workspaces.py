"""The expected workspace of a user: user events applied in any order to plain dictionaries."""

from copy import deepcopy
from typing import Any

from domain.user_events import UserEvent

WorkspaceDocument = dict[str, Any]


def empty_workspace(user: str) -> WorkspaceDocument:
    """The workspace of a user before the first event."""
    return {"user": user, "watchlists": {}, "presets": {}, "default_preset": None}


def apply_event(workspace: WorkspaceDocument, event: UserEvent) -> WorkspaceDocument:
    """Return the workspace after one more event."""
    workspace = deepcopy(workspace)
    fields = event.model_dump(mode="json")
    event_type = type(event).__name__
    if event_type == "UserForgotten":
        return empty_workspace(fields["user"])
    if event_type == "DefaultPresetChosen":
        for list_id in (workspace["default_preset"], fields["list_id"]):
            if list_id in workspace["presets"]:
                _touch(workspace["presets"][list_id], fields)
        workspace["default_preset"] = fields["list_id"]
        return workspace
    lists = workspace["watchlists" if event_type.startswith("Watchlist") else "presets"]
    list_id = fields["list_id"]
    content = {name: fields[name] for name in ("name", "symbols", "parameters") if name in fields}
    if event_type.endswith(("Created", "Restored")):
        lists[list_id] = {
            "id": list_id,
            "created_at": fields.get("created_at", fields["occurred_at"]),
            "updated_at": fields["occurred_at"],
            "version": fields.get("version", 1),
            **content,
        }
    elif event_type.endswith("Deleted"):
        lists.pop(list_id, None)
        if event_type == "PresetDeleted" and workspace["default_preset"] == list_id:
            workspace["default_preset"] = None
    elif list_id in lists:
        lists[list_id].update(content)
        _touch(lists[list_id], fields)
    return workspace


def _touch(item: dict[str, Any], fields: dict[str, Any]) -> None:
    item["version"] += 1
    item["updated_at"] = fields["occurred_at"]
