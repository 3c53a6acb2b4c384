"""What the hub of a process hears of one read model, and how far it has told it."""

from collections.abc import Callable, Iterator

from projections.versions import Build
from readapi.ports.commits import Commit, CommitIds
from readapi.push.event_ids import Topic, TopicPosition, TopicPositions
from readapi.push.replay_buffer import ReplayBuffer
from readapi.push.updates import TopicUpdate, steps

SWITCHED = "the read model is answered from another build now"
MISSED = "some changes were missed"
AHEAD = "the id is ahead of what this process has heard of"


class ChangeFeed:
    """A CommitListener; ``woken`` is called whenever there is something to tell."""

    def __init__(self, topic: Topic, woken: Callable[[], None], kept: ReplayBuffer) -> None:
        self.topic: Topic = topic
        self.told = kept.place
        """What clients that are up to date know."""
        self._kept = kept
        self._woken = woken

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        """As CommitListener."""
        self._kept.begin(build, last_commits)
        self._woken()

    def receive(self, commit: Commit) -> None:
        """As CommitListener."""
        self._kept.add(commit)
        self._woken()

    def take(self, places: TopicPositions, now: float) -> list[TopicUpdate]:
        """What has not been told, which counts as told from now on; ``places`` are those of all topics."""
        lost = self._kept.lost(self.told)
        before, self.told = self.told, self._kept.place
        if lost or not self.told.covers(before):
            reason = MISSED if before.build == self.told.build else SWITCHED
            return [TopicUpdate(self.topic, {**places, self.topic: self.told}, reason)]
        return list(steps(self.topic, {**places, self.topic: before}, self._kept.behind(before.marks), now))

    def missed(self, place: TopicPosition) -> Iterator[Commit]:
        """What has been told since ``place``, to which ``lost`` has no objection."""
        if self.told.build == self._kept.build:
            for commit in self._kept.behind(place.marks):
                if commit.log in self.told.marks and commit.id <= self.told.marks[commit.log]:
                    yield commit

    def lost(self, place: TopicPosition) -> str | None:
        """Why nobody can be told what came after ``place``; None where it is known."""
        return self._kept.lost(place) or (None if self.told.covers(place) else AHEAD)
