"""The return of free memory to the operating system after a burst, and the garbage collector of a worker."""

import gc
import platform

import psutil
import pytest

from infra.processes.memory import collect_garbage_by_batch, return_free_memory

BLOCK, BLOCKS = 50_000, 2_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library returns memory on request")
def test_the_memory_of_freed_objects_returns_to_the_operating_system() -> None:
    process = psutil.Process()
    blocks = [bytes([number % 256]) * BLOCK for number in range(BLOCKS)]
    last = blocks[-1]
    del blocks
    before = process.memory_info().rss
    return_free_memory()
    assert before - process.memory_info().rss > BLOCK * BLOCKS // 2
    assert len(last) == BLOCK


def test_the_garbage_collector_does_not_run_for_each_few_objects_of_a_batch() -> None:
    threshold = gc.get_threshold()
    try:
        collect_garbage_by_batch()
        before = gc.get_stats()[0]["collections"]
        batch = [[number] for number in range(20_000)]
        assert gc.get_stats()[0]["collections"] <= before + 1
        assert batch
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
