"""The versions of a read model: after any deploy, replay, switch, rollback and removal, no build is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from projections.versions import Build, NoSuchBuildError, Versions


class Builds(RuleBasedStateMachine):
    """Random sequences of deploys and of commands of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions()
        self.known_builds: set[Build] = set()
        self.removed: set[Build] = set()

    def replace_versions(self, versions: Versions) -> None:
        self.versions = versions
        self.known_builds |= {*versions.maintained, *versions.dropping}

    @rule(version=st.integers(1, 5))
    def deploy(self, version: int) -> None:
        live = self.versions.live
        self.replace_versions(self.versions.deployed(version))
        assert live is None or self.versions.live == live

    @precondition(lambda self: self.versions.live)
    @rule(version=st.integers(1, 5), held=st.booleans())
    def replay(self, version: int, held: bool) -> None:
        building = self.versions.building
        self.replace_versions(self.versions.replayed(version, held=held, throttle=0))
        after = self.versions.building
        assert after
        assert after.version >= version
        assert (after == building) is (building is not None and building.version >= version)

    @precondition(lambda self: self.versions.building)
    @rule()
    def switch(self) -> None:
        live, build = self.versions.live, self.versions.building
        assert build
        self.replace_versions(self.versions.switched(build))
        assert (self.versions.live, self.versions.previous, self.versions.building) == (build, live, None)

    @precondition(lambda self: self.versions.previous)
    @rule()
    def roll_back(self) -> None:
        before = self.versions
        self.replace_versions(before.rolled_back())
        assert self.versions.rolled_back() == before

    @precondition(lambda self: self.versions.dropping)
    @rule()
    def remove(self) -> None:
        build = self.versions.dropping[0]
        self.removed.add(build)
        self.replace_versions(self.versions.dropped(build))

    @invariant()
    def every_build_has_one_state(self) -> None:
        builds = [*self.versions.maintained, *self.versions.dropping, *self.removed]
        assert len(builds) == len(set(builds))
        assert set(builds) == self.known_builds

    @invariant()
    def build_numbers_are_unique(self) -> None:
        numbers = [build.number for build in self.known_builds]
        assert sorted(numbers) == list(range(1, self.versions.built + 1))


TestBuilds = Builds.TestCase


def test_old_and_new_code_in_a_rolling_deploy_do_not_replace_each_others_builds() -> None:
    """Old and new code start repeatedly while the new version is built, is live, and is rolled back."""
    versions = Versions().deployed(3)
    building = versions.deployed(4)
    assert building.building == Build(4, 2)
    assert building.deployed(3) == building.deployed(4) == building
    live = building.switched(Build(4, 2))
    assert live.deployed(3) == live.deployed(4) == live
    back = live.rolled_back()
    assert back.deployed(3) == back.deployed(4) == back
    assert back.deployed(5).building == Build(5, 3)


def test_two_replays_become_one_with_the_stricter_options() -> None:
    versions = Versions().deployed(1).replayed(1, held=True, throttle=0)
    joined = versions.replayed(1, held=False, throttle=500)
    assert (joined.building, joined.held, joined.throttle) == (versions.building, True, 500)


def test_a_replay_of_a_later_version_replaces_the_build_under_way() -> None:
    """Otherwise a command from new code would wait for a build of old code, and switch to it."""
    versions = Versions().deployed(1).replayed(1, held=True, throttle=7)
    after = versions.replayed(2, held=False, throttle=0)
    assert (after.building, after.held, after.throttle, after.dropping) == (Build(2, 3), False, 0, (Build(1, 2),))


def test_a_command_without_its_build_is_refused() -> None:
    versions = Versions().deployed(1)
    with pytest.raises(NoSuchBuildError):
        versions.rolled_back()
    with pytest.raises(NoSuchBuildError):
        versions.switched(Build(1, 1))
    with pytest.raises(NoSuchBuildError):
        Versions().replayed(1, held=False, throttle=0)


@given(st.builds(Build, st.integers(1, 99), st.integers(1, 99)))
def test_a_build_survives_formatting(build: Build) -> None:
    assert Build.parse(str(build)) == build
