"""The replay buffer: the last commits to one read model, in memory.

A client that reconnects with the id of its last message receives from the buffer the commits that it missed.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import count
from operator import itemgetter
from typing import NamedTuple

from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, CommitIds
from readapi.push.event_ids import TopicPosition

MAX_COMMITS = 20_000
"""Highest number of commits in the buffer of one read model, with or without changes. Each log has an equal share."""

MAX_CHANGES = 50_000
"""Highest number of row changes in the buffer of one read model. Each log has an equal share."""

MAX_BYTES = 16_777_216
"""Highest number of bytes in the buffer of one read model. Each log has an equal share."""

CHANGE_BYTES = 250
"""Approximate bytes per change besides its key and documents."""

TRACE_BYTES = 120
"""Approximate bytes per trace of a commit."""

ORIGIN = CommitId(0, 0)
"""The commit id before every commit."""

Arrival = tuple[int, Commit]
"""A commit with its running number among the commits of all logs that this process has received."""


class Bounds(NamedTuple):
    """Bounds of a buffer. Each is the highest number allowed."""

    commits: int = MAX_COMMITS
    changes: int = MAX_CHANGES
    bytes: int = MAX_BYTES

    def share(self, parts: int) -> "Bounds":
        """Return the bounds of one of several equal parts."""
        return Bounds(*(bound // parts for bound in self))


DEFAULT_BOUNDS = Bounds()


@dataclass(slots=True)
class _LogBuffer:
    """The last commits of one log: the commits after ``floor``, up to and including ``last``.

    Most commits to a read model that seldom changes have no changes. The buffer holds only the ids of such commits.
    """

    floor: CommitId
    last: CommitId
    commits: deque[Arrival] = field(default_factory=deque)
    """The commits with changes."""
    order: deque[CommitId] = field(default_factory=deque)
    """The ids of all commits, the oldest first."""
    ids: set[CommitId] = field(default_factory=set)
    """The ids of all commits."""
    changes: int = 0
    bytes: int = 0

    def append(self, number: int, commit: Commit) -> None:
        if commit.changes:
            self.commits.append((number, commit))
        self.order.append(commit.id)
        self.ids.add(commit.id)
        self.last = commit.id
        self.changes += len(commit.changes)
        self.bytes += _size(commit)

    def shrink(self, bounds: Bounds) -> None:
        while len(self.order) > bounds.commits or self.changes > bounds.changes or self.bytes > bounds.bytes:
            self.floor = self.order.popleft()
            self.ids.discard(self.floor)
            if self.commits and self.commits[0][1].id == self.floor:
                _, oldest = self.commits.popleft()
                self.changes -= len(oldest.changes)
                self.bytes -= _size(oldest)

    def after(self, commit_id: CommitId) -> Iterator[Arrival]:
        """Return the commits with changes after an id, in order, in time proportional to their number."""
        end = len(self.commits)
        newest_first = []
        while end and self.commits[end - 1][1].id > commit_id:
            end -= 1
            newest_first.append(self.commits[end])
        return reversed(newest_first)


def _size(commit: Commit) -> int:
    traces = TRACE_BYTES * len(commit.traces)
    return traces + sum(CHANGE_BYTES + len(key) + len(old or b"") + len(new or b"") for key, old, new in commit.changes)


class ReplayBuffer:
    """A bounded buffer of the last commits to the live build of a read model.

    Each log has a separate queue, from which the oldest commits are removed when the log exceeds its share of the
    bounds. ``add`` takes amortized constant time, ``commits_after`` time proportional to its result.
    """

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds
        self.build = Build(0, 0)
        """The build of the commits. 0.0 before the first build is known."""
        self._logs: dict[str, _LogBuffer] = {}
        self._numbers = count()

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        """Discard all commits and start with a build, directly after its ``last_commits``."""
        self.build = build
        self._logs = {log: _LogBuffer(commit_id, commit_id) for log, commit_id in last_commits.items()}

    def add(self, commit: Commit) -> None:
        """Add the next commit of a log. Removes the oldest commits of the log if it exceeds its share."""
        log = self._logs.setdefault(commit.log, _LogBuffer(ORIGIN, ORIGIN))
        log.append(next(self._numbers), commit)
        log.shrink(self._bounds.share(len(self._logs)))

    @property
    def position(self) -> TopicPosition:
        """The position after the last commit."""
        return TopicPosition(self.build, {name: log.last for name, log in self._logs.items()})

    def commits_after(self, last_commits: CommitIds) -> Iterator[Commit]:
        """Yield the commits with changes after ``last_commits``, in the order in which they arrived.

        A row that is merged from several logs has its last state in the commit that arrived last, whatever its log.
        """
        logs = [log.after(last_commits.get(name, ORIGIN)) for name, log in self._logs.items()]
        return map(itemgetter(1), merge(*logs, key=itemgetter(0)))

    def reason_lost(self, position: TopicPosition) -> str | None:
        """Say why the buffer does not have all commits after a position. None if the buffer has them."""
        if position.build != self.build:
            return f"the id is of build {position.build}, but build {self.build} of the read model answers now"
        for name, log in self._logs.items():
            commit_id = position.last_commits.get(name, ORIGIN)
            if commit_id < log.floor:
                return "the changes after the id are no longer in the replay buffer"
            if log.floor < commit_id <= log.last and commit_id not in log.ids:
                return "the id is of a commit that Redis has lost"
        return None
