"""The builds of a read model and the transitions between them.

A read model is built under a version of its code. The same version can be built again. One build is live, the build
before it is the previous build, and a new build may be in progress beside both. The transitions are pure functions.
A store performs a transition as one exchange: it replaces the state that it has read by the new state.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from domain.errors import TickViewError


class Build(NamedTuple):
    """The identity of one build of a read model, written ``version.number``: ``4.7``."""

    version: int
    """Version of the projection, from 1."""
    number: int
    """Running number among all builds of the read model, from 1. A number is never used twice."""

    def __str__(self) -> str:
        return f"{self.version}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``version.number``.

        Raises:
            ValueError: The text is not two whole numbers with a dot between them.
        """
        version, number = text.split(".")
        return cls(int(version), int(number))


class NoSuchBuildError(TickViewError, ValueError):
    """The transition needs a build that does not exist."""


@dataclass(frozen=True)
class Versions:
    """The builds of one read model."""

    live: Build | None = None
    """The build that answers queries."""
    previous: Build | None = None
    """The build that was live before. Workers keep it current as long as their code has its version."""
    building: Build | None = None
    """The build in progress."""
    held: bool = False
    """Whether ``building`` goes live only after a command."""
    throttle: int = 0
    """Highest number of events per second that each segment of ``building`` may fold. 0: no limit."""
    dropping: tuple[Build, ...] = ()
    """Dropped builds whose keys are not yet removed from the store."""
    built: int = 0
    """The highest number that a build of the read model has had."""
    unsound: Build | None = None
    """A live build that has folded events which the log has lost. At the next switch it is dropped."""

    @property
    def maintained(self) -> tuple[Build, ...]:
        """The builds that workers keep current: the live build, the previous build and the build in progress."""
        return tuple(build for build in (self.live, self.previous, self.building) if build)

    def deployed(self, version: int) -> "Versions":
        """Begin a build of a deployed version, unless a build of this or a later version exists.

        An older version changes nothing, so that a rolling deploy never switches backwards. A version that an operator
        has rolled back changes nothing either.
        """
        if self.live is None:
            return replace(self, live=Build(version, self.built + 1), built=self.built + 1)
        if version <= max(build.version for build in self.maintained):
            return self
        return self._begin(version, held=False, throttle=0)

    def replayed(self, version: int, *, held: bool, throttle: int) -> "Versions":
        """Begin a new build of a version. If a build of this or a later version is in progress, change its options.

        Args:
            version: The version of the projection.
            held: Whether the build goes live only after a command.
            throttle: The highest number of events per second for each segment. 0: no limit.

        Raises:
            NoSuchBuildError: There is no live build. Workers begin the first build by themselves.
        """
        if self.live is None:
            raise NoSuchBuildError(
                "There is no live build yet, so there is nothing to replay. Start a worker: it begins the first build."
            )
        if self.building and self.building.version >= version:
            return replace(self, held=self.held or held, throttle=throttle or self.throttle)
        return self._begin(version, held=held, throttle=throttle)

    def _begin(self, version: int, *, held: bool, throttle: int) -> "Versions":
        superseded = _present(self.building)
        number = self.built + 1
        return replace(
            self,
            building=Build(version, number),
            held=held,
            throttle=throttle,
            dropping=self.dropping + superseded,
            built=number,
        )

    def switched(self, build: Build) -> "Versions":
        """Make ``build`` live. The live build becomes the previous build, and the previous build is dropped.

        Raises:
            NoSuchBuildError: ``build`` is not the build in progress.
        """
        if self.building != build:
            raise NoSuchBuildError(f"Build {build} is not in progress, so it cannot go live.")
        previous = None if self.live == self.unsound else self.live
        dropped = _present(self.previous) + _present(self.unsound)
        return replace(
            self,
            live=build,
            previous=previous,
            building=None,
            held=False,
            dropping=self.dropping + dropped,
            unsound=None,
        )

    def rolled_back(self) -> "Versions":
        """Make the previous build live. The live build becomes the previous build.

        Raises:
            NoSuchBuildError: There is no previous build.
        """
        if self.previous is None:
            raise NoSuchBuildError("There is no previous build to roll back to.")
        return replace(self, live=self.previous, previous=self.live)

    def discredited(self, builds: Collection[Build]) -> "Versions":
        """Replace builds that have folded events which the log has lost by new builds.

        A live build goes on answering until the new build goes live.
        """
        versions = self
        if versions.previous in builds:
            versions = replace(versions, previous=None, dropping=(*versions.dropping, *_present(versions.previous)))
        live = versions.live
        if live is not None and live in builds and versions.unsound != live:
            has_successor = versions.building is not None and versions.building not in builds
            successor = versions if has_successor else versions._begin(live.version, held=False, throttle=0)
            return replace(successor, held=False, unsound=live)
        if versions.building is not None and versions.building in builds:
            return versions._begin(versions.building.version, held=versions.held, throttle=versions.throttle)
        return versions

    def dropped(self, build: Build) -> "Versions":
        """Forget a dropped build whose keys are removed from the store."""
        return replace(self, dropping=tuple(other for other in self.dropping if other != build))


def _present(build: Build | None) -> tuple[Build, ...]:
    return (build,) if build else ()
