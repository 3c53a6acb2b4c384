"""Changes of workspaces: which users' lists may have changed since the subscriptions were last renewed."""

from collections.abc import Callable, Collection

from projections.versions import Build
from readapi.ports.commits import Commit, CommitIds


class ChangedWorkspaces:
    """A commit listener that collects the users whose workspaces have changed. It ignores the new content.

    Args:
        on_change: Called whenever users are added.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._users: set[str] = set()
        self._all_users = False

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        """Implement ``CommitListener``: another build may differ in every workspace."""
        del build, last_commits
        self._all_users = True
        self._on_change()

    def receive(self, commit: Commit) -> None:
        """Implement ``CommitListener``."""
        self.add([change.key for change in commit.changes])

    def add(self, users: Collection[str]) -> None:
        """Add users whose workspaces must be read."""
        self._users.update(users)
        self._on_change()

    def put_back(self, users: Collection[str]) -> None:
        """Put users back whose workspaces could not be read, without a call of ``on_change``."""
        self._users.update(users)

    @property
    def is_empty(self) -> bool:
        """Whether no workspace has changed."""
        return not self._all_users and not self._users

    def take(self, subscribed: set[str]) -> set[str]:
        """Return the changed users among the ``subscribed`` users, and forget all changes."""
        users = subscribed if self._all_users else subscribed & self._users
        self._users, self._all_users = set(), False
        return users
