"""What a user has after some events, told anew: plain dictionaries, changed in place, whatever the order of events."""

from copy import deepcopy
from typing import Any

from domain.user_events import UserEvent

Has = dict[str, Any]


def empty_workspace(user: str) -> Has:
    """A user who has done nothing yet."""
    return {"user": user, "watchlists": {}, "presets": {}, "default_preset": None}


def apply_event(has: Has, event: UserEvent) -> Has:
    """What the user has after one event more."""
    has = deepcopy(has)
    said = event.model_dump(mode="json")
    done = type(event).__name__
    if done == "DefaultPresetChosen":
        for list_id in (has["default_preset"], said["list_id"]):
            if list_id in has["presets"]:
                touch(has["presets"][list_id], said)
        has["default_preset"] = said["list_id"]
        return has
    lists = has["watchlists" if done.startswith("Watchlist") else "presets"]
    list_id = said["list_id"]
    content = {name: said[name] for name in ("name", "symbols", "parameters") if name in said}
    if done.endswith(("Created", "Restored")):
        lists[list_id] = {
            "id": list_id,
            "created_at": said.get("created_at", said["occurred_at"]),
            "updated_at": said["occurred_at"],
            "version": said.get("version", 1),
            **content,
        }
    elif done.endswith("Deleted"):
        lists.pop(list_id, None)
        if done == "PresetDeleted" and has["default_preset"] == list_id:
            has["default_preset"] = None
    elif list_id in lists:
        lists[list_id].update(content)
        touch(lists[list_id], said)
    return has


def touch(one: dict[str, Any], said: dict[str, Any]) -> None:
    """It has changed."""
    one["version"] += 1
    one["updated_at"] = said["occurred_at"]
