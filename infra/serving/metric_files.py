"""The files of ``prometheus_client``, one per API process and type of metric, when a process ends.

A gauge of a process that has ended says nothing any more. Its counters and histograms are added to those of all ended
processes, so that the number of files stays bounded and no total decreases.
See https://prometheus.github.io/client_python/multiprocess/.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

ENDED = "ended"
"""Takes the place of the process id in the names of the files of all ended processes."""


def retire_process(folder: Path, process: int) -> None:
    """Merge the files of a process that has ended into the files of all ended processes."""
    for file in folder.glob(f"*_{process}.db"):
        kind = file.name.removesuffix(f"_{process}.db")
        if not kind.startswith("gauge"):
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


def _read(file: Path) -> Iterator[tuple[str, float]]:
    for key, value, *_ in MmapedDict.read_all_values_from_file(os.fspath(file)):
        yield key, value
