"""Snapshots of workspaces, so that a command need not fold the user's whole history: the latest of each user in Redis.

A snapshot is a shortcut and no more: one that is lost, or that this code cannot read, costs the time of folding anew.
"""

from dataclasses import asdict
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError

from domain.lists import Preset, Watchlist
from domain.workspace import Workspace
from infra.log.event_log import EventLog
from infra.log.keys import tagged_key
from infra.redis.cluster import UNREACHABLE_ERRORS, run_on_key_node

logger = structlog.get_logger()

SCHEMA = 1
"""Raised with every change to what a workspace holds: snapshots of another schema are not read."""


class Snapshots:
    """In a hash beside the log: user -> JSON.

    Each is of a reign of the log, its id and epoch: when a lost end of the log has been put back from the archive, the
    end may be another than a snapshot knows, and a new reign begins.
    """

    def __init__(self, log: EventLog) -> None:
        self._client = log.client
        self._meta = log.keys.meta
        self._key = tagged_key(log.name, f"workspaces:{SCHEMA}")

    def get(self, user: str) -> tuple[Workspace, str]:
        """The latest of a user, else the workspace of one who has nothing yet; and the reign of the log, in one round
        trip.
        """

        def ask(node: Any) -> list[Any]:
            with node.pipeline(transaction=True) as pipeline:
                pipeline.hget(self._key, user)
                pipeline.hmget(self._meta, ["id", "epoch"])
                return list(pipeline.execute())

        stored, (identity, epoch) = run_on_key_node(self._client, self._key, ask)
        reign = f"{(identity or b'').decode()} {int(epoch or 0)}"
        values = orjson.loads(stored or b"{}")
        return _unpacked(user, values) if values.get("reign") == reign else Workspace(user), reign

    def keep(self, workspace: Workspace, reign: str) -> None:
        """Put it in the place of the one before; where that cannot be done, which is logged, the next one will be."""
        packed = _packed(workspace, reign)
        try:
            run_on_key_node(self._client, self._key, lambda node: node.hset(self._key, workspace.user, packed))
        except (RedisError, *UNREACHABLE_ERRORS) as error:
            # The command is recorded: whoever gave it must not be told that it failed.
            logger.warning("snapshot not kept", user=workspace.user, error=str(error))


def _packed(workspace: Workspace, reign: str) -> bytes:
    return orjson.dumps(
        {
            "reign": reign,
            "version": workspace.version,
            "watchlists": list(map(asdict, workspace.watchlists.values())),
            "presets": list(map(asdict, workspace.presets.values())),
            "default_preset": workspace.default_preset,
        }
    )


def _unpacked(user: str, values: dict[str, Any]) -> Workspace:
    workspace = Workspace(user)
    workspace.version = values["version"]
    for one in values["watchlists"]:
        workspace.watchlists[one["id"]] = Watchlist(**{**one, "symbols": tuple(one["symbols"])})
    workspace.presets = {one["id"]: Preset(**one) for one in values["presets"]}
    workspace.default_preset = values["default_preset"]
    return workspace
