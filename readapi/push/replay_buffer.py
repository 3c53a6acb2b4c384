"""The last commits to one read model: kept so that a client which comes back gets what it missed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, CommitIds
from readapi.push.event_ids import TopicPosition

KEPT_CHANGES = 50_000
"""Changes of rows that are kept of one read model, at most; each of its logs has an equal share."""

KEPT_BYTES = 16_777_216
"""Bytes that the kept changes of one read model take, at most, in equal shares too."""

CHANGE_BYTES = 250
"""What a change takes besides its documents."""

ORIGIN = CommitId(0, 0)
"""Before every commit."""


@dataclass(slots=True)
class _KeptLog:
    """The last commits of one log: those behind ``floor``, up to ``reached``."""

    floor: CommitId
    reached: CommitId
    commits: deque[Commit] = field(default_factory=deque)
    changes: int = 0
    bytes: int = 0

    def add(self, commit: Commit) -> None:
        self.commits.append(commit)
        self.reached = commit.id
        self.changes += len(commit.changes)
        self.bytes += _size(commit)

    def shrink(self, changes: int, size: int) -> None:
        while self.changes > changes or self.bytes > size:
            oldest = self.commits.popleft()
            self.floor = oldest.id
            self.changes -= len(oldest.changes)
            self.bytes -= _size(oldest)

    def behind(self, mark: CommitId) -> Iterator[Commit]:
        """In order. Looks at no more commits than it gives, and one."""
        last = len(self.commits)
        missed = []
        while last and self.commits[last - 1].id > mark:
            last -= 1
            missed.append(self.commits[last])
        return reversed(missed)


def _size(commit: Commit) -> int:
    return sum(CHANGE_BYTES + len(key) + len(old or b"") + len(new or b"") for key, old, new in commit.changes)


class ReplayBuffer:
    """The last commits to the live build of a read model."""

    def __init__(self, changes: int = KEPT_CHANGES, size: int = KEPT_BYTES) -> None:
        self._changes = changes
        self._size = size
        self.build = Build(0, 0)
        """0.0 before any is known."""
        self._logs: dict[str, _KeptLog] = {}

    def begin(self, build: Build, marks: CommitIds) -> None:
        """Forget what was; from now on commits behind ``marks`` are added."""
        self.build = build
        self._logs = {log: _KeptLog(mark, mark) for log, mark in marks.items()}

    def add(self, commit: Commit) -> None:
        """Keep the next commit of its log, for which the oldest ones may have to go."""
        log = self._logs.setdefault(commit.log, _KeptLog(ORIGIN, ORIGIN))
        log.add(commit)
        log.shrink(self._changes // len(self._logs), self._size // len(self._logs))

    @property
    def place(self) -> TopicPosition:
        """Up to the last commit."""
        return TopicPosition(self.build, {name: log.reached for name, log in self._logs.items()})

    def behind(self, marks: CommitIds) -> Iterator[Commit]:
        """What was committed after ``marks``, in order for each log."""
        for name, log in self._logs.items():
            yield from log.behind(marks.get(name, ORIGIN))

    def lost(self, place: TopicPosition) -> str | None:
        """Why what came after ``place`` is not here; None where it is."""
        if place.build != self.build:
            return f"the read model is answered from build {self.build} now, not from {place.build}"
        if any(place.marks.get(name, ORIGIN) < log.floor for name, log in self._logs.items()):
            return "what came after the id is no longer kept"
        return None
