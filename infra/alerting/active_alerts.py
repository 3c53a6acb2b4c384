"""The alerts of all users, kept current from the read model of the workspaces and from the catalogue."""

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from domain.streams import USERS_LOG
from infra.alerting.matching import AlertSource, Compiled, compile_filters, sources_of
from infra.alerts.signatures import webhook_secret
from infra.serving.live_read_model import LiveReadModel
from infra.user_keys.key_store import UserKeys
from projections.queries import ALWAYS, Cursor, Equality, Matches, Query
from projections.versions import Build
from projections.workspaces import WorkspaceRow
from readapi.catalogue.filters import Catalogue
from readapi.ports.commits import Commit, CommitIds
from readapi.ports.errors import UnavailableError

FOLD_SECONDS = 10.0
"""Longest wait for the read model of the workspaces, in seconds."""

PAGE_USERS = 100
"""Number of users whose workspaces one query reads."""

WITH_ALERTS = Equality("has_alerts", frozenset({"true"}))
"""The filter by which the users with alerts are found."""

AlertKey = tuple[str, str]
"""The user and the id of the preset."""


class ActiveAlert(NamedTuple):
    """One alert that can be matched and delivered."""

    source: AlertSource
    matches: Matches
    secret: bytes
    """The secret that signs requests to the webhook."""

    @property
    def lane(self) -> Hashable:
        """The receiver: the server of the webhook, or the live connections."""
        if self.source.webhook is None:
            return None
        parts = urlsplit(self.source.webhook)
        return parts.scheme, (parts.hostname or "").rstrip("."), parts.port


class ActiveAlerts:
    """The alerts of all users. A listener for the commits of the workspaces (``CommitListener``).

    Args:
        workspaces: The read model of the workspaces.
        catalogue: Resolves the sectors and universes of presets.
        keys: The keys of the users, from which the secrets are derived.
        shown_values: Column -> the number that answers show where a pattern has none.
    """

    def __init__(
        self, workspaces: LiveReadModel, catalogue: Catalogue, keys: UserKeys, shown_values: Mapping[str, float]
    ) -> None:
        self._workspaces = workspaces
        self._catalogue = catalogue
        self._keys = keys
        self._shown_values = shown_values
        self._changed: set[str] = set()
        self._all_changed = True
        self._catalogue_state: Hashable = None
        self._alerts: dict[AlertKey, ActiveAlert] = {}
        self._compiled: Compiled = ()
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        """Implement ``CommitListener``: another build may differ in every workspace."""
        del build, last_commits
        self._all_changed = True

    def receive(self, commit: Commit) -> None:
        """Implement ``CommitListener``: the workspaces in the commit must be read again."""
        self._changed.update(change.key for change in commit.changes)

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Register a function that is called after the alerts have changed."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Remove a registered function."""
        self._listeners.remove(listener)

    def get(self, user: str, list_id: str, since: float) -> ActiveAlert | None:
        """Return an alert. None: it has ended, and perhaps another one with its preset has begun."""
        alert = self._alerts.get((user, list_id))
        return alert if alert and alert.source.since == since else None

    @property
    def compiled(self) -> Compiled:
        """All alerts with their compiled filters."""
        return self._compiled

    async def catch_up(self, position: int) -> None:
        """Bring the alerts at least up to a position of the log of the users.

        Raises:
            UnavailableError: The read model of the workspaces or the catalogue does not get as far in time.
            RedisError: The workspaces cannot be read.
        """
        if await self._workspaces.reached({USERS_LOG: position}, FOLD_SECONDS) is None:
            raise UnavailableError(f"the read model workspaces has not folded position {position} of the users' log")
        async with self._lock:
            await self._refresh()

    async def _refresh(self) -> None:
        state = self._catalogue.state
        if not (self._all_changed or self._changed or state != self._catalogue_state):
            return
        users, is_complete = set(self._changed), self._all_changed
        self._changed.clear()
        self._all_changed = False
        try:
            workspaces = await (self._read_all() if is_complete else self._read(users))
            replaced = {user for user, _ in self._alerts} if is_complete else users
            kept = {key: alert for key, alert in self._alerts.items() if key[0] not in replaced}
            if state != self._catalogue_state:
                kept = {key: self._recompiled(alert) for key, alert in kept.items()}
            compiled = await self._compile([source for each in workspaces for source in sources_of(each)])
        except BaseException:
            # The next attempt reads the same workspaces again.
            self._changed |= users
            self._all_changed |= is_complete
            raise
        self._alerts, self._catalogue_state = {**kept, **compiled}, state
        self._compiled = [(alert.source, alert.matches) for alert in self._alerts.values()]
        for listener in self._listeners:
            listener()

    async def _read(self, users: Collection[str]) -> list[WorkspaceRow]:
        if not users:
            return []
        found = await self._workspaces.current.queries.get_many(list(users), ALWAYS)
        return [result.row for result in found]

    async def _read_all(self) -> list[WorkspaceRow]:
        rows: list[WorkspaceRow] = []
        after: Cursor | None = None
        while True:
            query = Query(time.time(), (WITH_ALERTS,), after=after, limit=PAGE_USERS)
            page = await self._workspaces.current.queries.page(query)
            rows += [result.row for result in page.rows]
            after = page.end
            if after is None:
                return rows

    def _recompiled(self, alert: ActiveAlert) -> ActiveAlert:
        """Resolve the sectors and universes of an alert again. An alert without them stays as it is."""
        if not alert.source.parameters.catalogue_names:
            return alert
        return alert._replace(matches=compile_filters(alert.source, self._catalogue, self._shown_values))

    async def _compile(self, sources: Sequence[AlertSource]) -> dict[AlertKey, ActiveAlert]:
        keys = await asyncio.to_thread(self._keys.read, {source.user for source in sources})
        # A user whose key is destroyed is forgotten, and the row disappears soon.
        return {
            (source.user, source.list_id): ActiveAlert(
                source,
                compile_filters(source, self._catalogue, self._shown_values),
                webhook_secret(keys[source.user], source.list_id, source.salt),
            )
            for source in sources
            if source.user in keys and keys[source.user].secret
        }
