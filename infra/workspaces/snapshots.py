"""Snapshots of workspaces: the latest one of each user in Redis, so that a command need not read the whole history.

A snapshot only saves time. If it is lost, or this code cannot read it, the workspace is folded from its events.
"""

from dataclasses import asdict
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError

from domain.alerts import Alert
from domain.lists import Preset, Watchlist
from domain.workspace import Workspace
from infra.log.event_log import EventLog
from infra.log.keys import tagged_key
from infra.redis.cluster import UNREACHABLE_ERRORS, run_on_key_node
from infra.user_keys.encryption import DecryptionError, Place, UserKey, decrypt, encrypt
from infra.user_keys.key_store import UserKeys, parse_key

logger = structlog.get_logger()

SCHEMA = 3
"""Version of the snapshot format. Raise it when the state of a workspace changes: other versions are not read."""


def snapshots_key(log: str, schema: int = SCHEMA) -> str:
    """Return the key of the snapshots of a schema."""
    return tagged_key(log, f"workspaces:{schema}")


class Snapshots:
    """The snapshots in a Redis hash beside the log, by user: JSON that is encrypted with the key of the user.

    Each snapshot belongs to one incarnation of the log: its id and epoch, stored as ``reign``. A restore from the
    archive after a loss begins a new incarnation, whose last events may differ from the events in a snapshot.
    """

    def __init__(self, log: EventLog, keys: UserKeys) -> None:
        self._client = log.client
        self._meta = log.keys.meta
        self._keys = keys.key
        self._key = snapshots_key(log.name)

    def load(self, user: str) -> tuple[Workspace, UserKey | None, str]:
        """Load the snapshot of a user, or an empty workspace if there is none for the current incarnation of the log.

        Returns:
            The workspace, the key of the user and the incarnation of the log, all from one round trip.
        """

        def read(node: Any) -> list[Any]:
            with node.pipeline(transaction=True) as pipeline:
                pipeline.hget(self._key, user)
                pipeline.hget(self._keys, user)
                pipeline.hmget(self._meta, ["id", "epoch"])
                return list(pipeline.execute())

        stored, stored_key, (identity, epoch) = run_on_key_node(self._client, self._key, read)
        key = parse_key(stored_key) if stored_key else None
        incarnation = f"{(identity or b'').decode()} {int(epoch or 0)}"
        values = _decrypt(key, user, stored) if key and stored else {}
        workspace = _unpack(user, values) if values.get("reign") == incarnation else Workspace(user)
        return workspace, key, incarnation

    def store(self, workspace: Workspace, key: UserKey, incarnation: str) -> None:
        """Replace the snapshot of a user. A failure is logged only: the next command stores a snapshot again."""
        encrypted = encrypt(key, _place(workspace.user), _pack(workspace, incarnation))
        try:
            run_on_key_node(self._client, self._key, lambda node: node.hset(self._key, workspace.user, encrypted))
        except (RedisError, *UNREACHABLE_ERRORS) as error:
            # No error for the user: the command itself is recorded.
            logger.warning("snapshot not stored", user=workspace.user, error=str(error))


def _decrypt(key: UserKey, user: str, stored: bytes) -> dict[str, Any]:
    try:
        values: dict[str, Any] = orjson.loads(decrypt(key, _place(user), stored))
    except DecryptionError:  # The key is destroyed, and perhaps replaced by another one.
        return {}
    return values


def _place(user: str) -> Place:
    """Return the place of a snapshot, which differs from the place of every event."""
    return Place(Workspace(user).id, 0, "snapshot")


def _pack(workspace: Workspace, incarnation: str) -> bytes:
    return orjson.dumps(
        {
            "reign": incarnation,
            "version": workspace.version,
            "watchlists": list(map(asdict, workspace.watchlists.values())),
            "presets": list(map(asdict, workspace.presets.values())),
            "default_preset": workspace.default_preset,
            "alerts": {list_id: asdict(alert) for list_id, alert in workspace.alerts.items()},
            "generation": workspace.generation,
        }
    )


def _unpack(user: str, values: dict[str, Any]) -> Workspace:
    workspace = Workspace(user)
    workspace.version = values["version"]
    for watchlist in values["watchlists"]:
        workspace.watchlists[watchlist["id"]] = Watchlist(**{**watchlist, "symbols": tuple(watchlist["symbols"])})
    workspace.presets = {preset["id"]: Preset(**preset) for preset in values["presets"]}
    workspace.default_preset = values["default_preset"]
    workspace.alerts = {list_id: Alert(**alert) for list_id, alert in values["alerts"].items()}
    workspace.generation = values["generation"]
    return workspace
