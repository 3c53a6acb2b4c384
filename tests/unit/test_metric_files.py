"""The files of the metrics of several processes, read while processes start and end."""

import os
from pathlib import Path
from threading import Thread

import orjson
from prometheus_client.mmap_dict import MmapedDict

from infra.serving.metric_files import MergedProcesses, retire_process

KEY = orjson.dumps(["requests", "requests_total", {}, "Requests."]).decode()


def write_counter(folder: Path, process: int, value: float) -> None:
    values = MmapedDict(os.fspath(folder / f"counter_{process}.db"))
    values.write_value(KEY, value, 0.0)
    values.close()


def total(folder: Path) -> float:
    return sum(sample.value for metric in MergedProcesses(folder).collect() for sample in metric.samples)


def test_values_of_running_and_ended_processes_are_added(tmp_path: Path) -> None:
    for process in range(3):
        write_counter(tmp_path, process, 2.0)
    retire_process(tmp_path, 0)
    retire_process(tmp_path, 1)
    assert total(tmp_path) == 6.0
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_a_process_has_just_created_has_no_values(tmp_path: Path) -> None:
    write_counter(tmp_path, 1, 2.0)
    (tmp_path / "counter_2.db").touch()
    assert total(tmp_path) == 2.0
    retire_process(tmp_path, 2)
    assert total(tmp_path) == 2.0


def test_processes_may_start_and_end_during_a_collection(tmp_path: Path) -> None:
    def start_and_end_processes() -> None:
        for process in range(300):
            write_counter(tmp_path, process, 1.0)
            retire_process(tmp_path, process)

    thread = Thread(target=start_and_end_processes)
    thread.start()
    totals = []
    while thread.is_alive():
        totals.append(total(tmp_path))
    assert max(totals) <= 301, "a process that ends may be counted twice for a moment"
    assert total(tmp_path) == 300
