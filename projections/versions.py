"""Which builds of a read model there are, and how one takes the place of another.

A read model is built under a version of its code, and the same version can be built again. One build is live; the one
before is kept as it was; a new one may be under way beside them. The transitions are pure: what a store makes of them
is one exchange of the state read for the state that follows.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from domain.errors import TickViewError


class Build(NamedTuple):
    """One building of a read model."""

    version: int
    """Of the projection's code."""
    number: int
    """Of all builds of the read model, from 1; never given twice."""

    def __str__(self) -> str:
        return f"{self.version}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``str`` makes. Raises ValueError for anything else."""
        version, number = text.split(".")
        return cls(int(version), int(number))


class NoSuchBuildError(TickViewError, ValueError):
    """There is no build to do this with; the message says which is missing."""


@dataclass(frozen=True)
class Versions:
    """The builds of one read model."""

    live: Build | None = None
    previous: Build | None = None
    """The one that was live before; kept current as long as some code knows its version."""
    building: Build | None = None
    held: bool = False
    """Whether ``building`` waits for somebody's word before it goes live."""
    throttle: int = 0
    """Events a second, for each segment, that ``building`` may fold; 0: as fast as it can."""
    dropping: tuple[Build, ...] = ()
    """Builds that nobody needs any more, until their keys are removed."""
    built: int = 0
    """The highest number given to a build."""
    unsound: Build | None = None
    """A live build that has folded events which the log has lost: dropped, and not kept, when the next goes live."""

    @property
    def maintained(self) -> tuple[Build, ...]:
        """The builds that are to be folded on: the live, the previous, the one under way."""
        return tuple(build for build in (self.live, self.previous, self.building) if build)

    def deployed(self, version: int) -> "Versions":
        """Code of this version runs: build it, unless it is there already or something later is.

        An older version changes nothing, so that neither side of a rolling deploy switches backwards; nor does the
        version that has been rolled back from.
        """
        if self.live is None:
            return replace(self, live=Build(version, self.built + 1), built=self.built + 1)
        if version <= max(build.version for build in self.maintained):
            return self
        return self._begin(version, held=False, throttle=0)

    def replayed(self, version: int, *, held: bool, throttle: int) -> "Versions":
        """Build ``version`` anew; a build that is under way already is joined.

        Raises NoSuchBuildError where nothing is live: workers begin the first build by themselves.
        """
        if self.live is None:
            raise NoSuchBuildError("there is no live build yet to build another beside: start a worker")
        if self.building:
            return replace(self, held=self.held or held, throttle=throttle or self.throttle)
        return self._begin(version, held=held, throttle=throttle)

    def _begin(self, version: int, *, held: bool, throttle: int) -> "Versions":
        superseded = _some(self.building)
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
        """``build`` goes live; the live one becomes the previous, and the previous is dropped.

        Raises NoSuchBuildError if it is not the one under way.
        """
        if self.building != build:
            raise NoSuchBuildError(f"build {build} is not under way")
        previous = None if self.live == self.unsound else self.live
        dropped = _some(self.previous) + _some(self.unsound)
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
        """The previous build goes live, and the live one becomes the previous. Raises NoSuchBuildError."""
        if self.previous is None:
            raise NoSuchBuildError("there is no previous build to go back to")
        return replace(self, live=self.previous, previous=self.live)

    def discredited(self, builds: Collection[Build]) -> "Versions":
        """These builds have folded events that are no more: what they have built is built anew.

        The live one goes on answering until then.
        """
        versions = self
        if versions.previous in builds:
            versions = replace(versions, previous=None, dropping=(*versions.dropping, *_some(versions.previous)))
        live = versions.live
        if live is not None and live in builds and versions.unsound != live:
            sound = versions.building is not None and versions.building not in builds
            begun = versions if sound else versions._begin(live.version, held=False, throttle=0)
            return replace(begun, held=False, unsound=live)
        if versions.building is not None and versions.building in builds:
            return versions._begin(versions.building.version, held=versions.held, throttle=versions.throttle)
        return versions

    def dropped(self, build: Build) -> "Versions":
        """The keys of ``build`` are gone."""
        return replace(self, dropping=tuple(other for other in self.dropping if other != build))


def _some(build: Build | None) -> tuple[Build, ...]:
    return (build,) if build else ()
