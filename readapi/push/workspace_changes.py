"""Whose lists may have changed: hears the commits to ``workspaces``, which tell whose, and not what they say."""

from collections.abc import Callable, Collection

from projections.versions import Build
from readapi.ports.commits import Commit, CommitIds


class ChangedWorkspaces:
    """The users, until they are taken. ``wake`` is called when there are some."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._users: set[str] = set()
        self._everybody = False

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        """As CommitListener: another build answers."""
        del build, last_commits
        self._everybody = True
        self._wake()

    def receive(self, commit: Commit) -> None:
        """As CommitListener."""
        self.add([change.key for change in commit.changes])

    def add(self, users: Collection[str]) -> None:
        """Their lists are to be looked at."""
        self._users.update(users)
        self._wake()

    def put_back(self, users: Collection[str]) -> None:
        """They could not be looked at now, and are to be at the next occasion."""
        self._users.update(users)

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._everybody and not self._users

    def take(self, watched: set[str]) -> set[str]:
        """Those of the ``watched`` who are among them; none is then any longer."""
        users = watched if self._everybody else watched & self._users
        self._users, self._everybody = set(), False
        return users
