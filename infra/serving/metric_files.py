"""The files of ``prometheus_client``, one per API process and type of metric, while processes start and end.

A gauge of a process that has ended says nothing any more. Its counters and histograms are added to those of all ended
processes, so that the number of files stays bounded and no total decreases. A process creates an empty file first, and
writes to it afterwards.
See https://prometheus.github.io/client_python/multiprocess/.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

ENDED = "ended"
"""Takes the place of the process id in the names of the files of all ended processes."""


class MergedProcesses(Collector):
    """Collects the metrics of all processes. Processes may start and end during the collection.

    Args:
        folder: The folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all processes, merged."""
        while True:
            try:
                files = [os.fspath(file) for file in self._folder.glob("*.db") if _has_content(file)]
                metrics: Iterable[Metric] = MultiProcessCollector.merge(files)
            except FileNotFoundError:  # A process has ended, and its values are in another file now.
                continue
            return metrics


def retire_process(folder: Path, process: int) -> None:
    """Merge the files of a process that has ended into the files of all ended processes."""
    for file in folder.glob(f"*_{process}.db"):
        kind = file.name.removesuffix(f"_{process}.db")
        if not kind.startswith("gauge") and _has_content(file):
            _add(file, folder / f"{kind}_{ENDED}.db")
        file.unlink()


def _add(source: Path, target: Path) -> None:
    values = MmapedDict(os.fspath(target))
    try:
        for key, value in _read(source):
            total, _ = values.read_value(key)
            values.write_value(key, total + value, 0.0)
    finally:
        values.close()


def _has_content(file: Path) -> bool:
    return file.stat().st_size > 0


def _read(file: Path) -> Iterator[tuple[str, float]]:
    for key, value, *_ in MmapedDict.read_all_values_from_file(os.fspath(file)):
        yield key, value
