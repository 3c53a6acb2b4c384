"""The expected workspace of a user: user events applied in any order to plain dictionaries."""

from copy import deepcopy
from typing import Any

from domain.user_events import UserEvent

WorkspaceDocument = dict[str, Any]


def empty_workspace(user: str) -> WorkspaceDocument:
    """The workspace of a user before the first event."""
    lists: WorkspaceDocument = {"watchlists": {}, "presets": {}, "default_preset": None}
    return {"user": user, **lists, "alerts": {}, "has_alerts": False}


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
    if event_type in ("AlertSet", "AlertRemoved"):
        _apply_alert_event(workspace, event_type, fields)
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
    elif event_type == "PresetDeleted":
        lists.pop(list_id, None)
        workspace["default_preset"] = None if workspace["default_preset"] == list_id else workspace["default_preset"]
        _remove_alert(workspace, list_id)
    elif event_type == "WatchlistDeleted":
        lists.pop(list_id, None)
    elif list_id in lists:
        lists[list_id].update(content)
        _touch(lists[list_id], fields)
    return workspace


def _apply_alert_event(workspace: WorkspaceDocument, event_type: str, fields: dict[str, Any]) -> None:
    list_id, alerts = fields["list_id"], workspace["alerts"]
    if event_type == "AlertRemoved":
        _remove_alert(workspace, list_id)
    elif list_id in workspace["presets"]:
        alert = alerts.setdefault(list_id, {"created_at": fields["occurred_at"], "version": 0})
        alert.update(webhook=fields["webhook"], salt=fields["salt"])
        _touch(alert, fields)
        workspace["has_alerts"] = True


def _remove_alert(workspace: WorkspaceDocument, list_id: str) -> None:
    workspace["alerts"].pop(list_id, None)
    workspace["has_alerts"] = bool(workspace["alerts"])


def _touch(item: dict[str, Any], fields: dict[str, Any]) -> None:
    item["version"] += 1
    item["updated_at"] = fields["occurred_at"]
