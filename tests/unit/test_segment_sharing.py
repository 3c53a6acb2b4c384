"""Shares of workers: they divide the segments of each build, and differ little over all builds."""

from hypothesis import given
from hypothesis import strategies as st

from domain.streams import USERS_LOG, market_logs
from infra.projecting.build_lifecycle import ModelBuild
from infra.projecting.segment_sharing import FairShare, WorkerRank
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build


def shares_of(name: str, logs: list[str], workers: int) -> list[list[Segment]]:
    """Return the segments that each worker prefers, in the order of the places."""
    build = ModelBuild(name, Build(1, 1))
    shares = [FairShare.of(build, logs, WorkerRank(place, workers), []) for place in range(workers)]
    return [share.next_candidates() for share in shares]


@given(st.text(min_size=1), st.integers(1, 20), st.integers(1, 20))
def test_workers_divide_the_segments_of_a_build(name: str, logs: int, workers: int) -> None:
    names = [f"market-{number}" for number in range(logs)]
    shares = shares_of(name, names, workers)
    assert sorted(segment.log for share in shares for segment in share) == sorted(names)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_two_to_eight_workers_have_about_as_many_segments() -> None:
    for workers in range(2, 9):
        sizes = [0] * workers
        for name, projection in READ_MODELS.items():
            logs = [log for log in (*market_logs(4), USERS_LOG) if projection.folds(log)]
            for place, share in enumerate(shares_of(name, logs, workers)):
                sizes[place] += len(share)
        assert max(sizes) - min(sizes) <= 2, (workers, sizes)


def test_a_worker_gives_up_what_exceeds_its_share_and_keeps_other_segments() -> None:
    build = ModelBuild("patterns", Build(1, 1))
    logs = market_logs(4)
    held = [Segment(*build, log) for log in logs]
    shares = [FairShare.of(build, logs, WorkerRank(place, 3), held) for place in range(3)]
    assert sorted(4 - len(share.surplus) for share in shares) == [1, 1, 2]
    kept = FairShare.of(build, logs, WorkerRank(0, 2), held[2:])
    assert (kept.surplus, kept.missing) == ([], 0)
