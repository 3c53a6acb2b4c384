"""Builds of a read model: whatever is deployed, replayed, switched and rolled back, one is live and none is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from projections.versions import Build, NoSuchBuildError, Versions


class Builds(RuleBasedStateMachine):
    """Any sequence of what operators and deploys do."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions()
        self.seen: set[Build] = set()
        self.removed: set[Build] = set()

    def become(self, versions: Versions) -> None:
        self.versions = versions
        self.seen |= {*versions.maintained, *versions.dropping}

    @rule(version=st.integers(1, 5))
    def deploy(self, version: int) -> None:
        live = self.versions.live
        self.become(self.versions.deployed(version))
        assert live is None or self.versions.live == live

    @precondition(lambda self: self.versions.live)
    @rule(version=st.integers(1, 5), held=st.booleans())
    def replay(self, version: int, held: bool) -> None:
        under_way = self.versions.building
        self.become(self.versions.replayed(version, held=held, throttle=0))
        assert under_way in (None, self.versions.building)

    @precondition(lambda self: self.versions.building)
    @rule()
    def switch(self) -> None:
        live, build = self.versions.live, self.versions.building
        assert build
        self.become(self.versions.switched(build))
        assert (self.versions.live, self.versions.previous, self.versions.building) == (build, live, None)

    @precondition(lambda self: self.versions.previous)
    @rule()
    def roll_back(self) -> None:
        before = self.versions
        self.become(before.rolled_back())
        assert self.versions.rolled_back() == before

    @precondition(lambda self: self.versions.dropping)
    @rule()
    def remove(self) -> None:
        build = self.versions.dropping[0]
        self.removed.add(build)
        self.become(self.versions.dropped(build))

    @invariant()
    def every_build_is_in_one_place(self) -> None:
        places = [*self.versions.maintained, *self.versions.dropping, *self.removed]
        assert len(places) == len(set(places))
        assert set(places) == self.seen

    @invariant()
    def numbers_are_given_once(self) -> None:
        numbers = [build.number for build in self.seen]
        assert sorted(numbers) == list(range(1, self.versions.built + 1))


TestBuilds = Builds.TestCase


def test_a_rolling_deploy_does_not_fight() -> None:
    """Old and new code start again and again while the new version is built, live, and rolled back from."""
    versions = Versions().deployed(3)
    building = versions.deployed(4)
    assert building.building == Build(4, 2)
    assert building.deployed(3) == building.deployed(4) == building
    live = building.switched(Build(4, 2))
    assert live.deployed(3) == live.deployed(4) == live
    back = live.rolled_back()
    assert back.deployed(3) == back.deployed(4) == back
    assert back.deployed(5).building == Build(5, 3)


def test_two_replays_at_once_become_one_and_wait_for_the_stricter() -> None:
    versions = Versions().deployed(1).replayed(1, held=True, throttle=0)
    joined = versions.replayed(1, held=False, throttle=500)
    assert (joined.building, joined.held, joined.throttle) == (versions.building, True, 500)


def test_what_is_not_there_cannot_be_done() -> None:
    versions = Versions().deployed(1)
    with pytest.raises(NoSuchBuildError):
        versions.rolled_back()
    with pytest.raises(NoSuchBuildError):
        versions.switched(Build(1, 1))
    with pytest.raises(NoSuchBuildError):
        Versions().replayed(1, held=False, throttle=0)


@given(st.builds(Build, st.integers(1, 99), st.integers(1, 99)))
def test_a_build_is_read_as_it_is_written(build: Build) -> None:
    assert Build.parse(str(build)) == build
