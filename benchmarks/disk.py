"""Disk: what the data directories of the benchmarks lie on, and how long it takes to make something durable there.

They lie where temporary files do: `TMPDIR` names another place. In a file system in memory every figure would flatter.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import cache
from pathlib import Path
from statistics import median


@cache
def tell() -> None:
    """Print it; once."""
    place = Path(tempfile.gettempdir()).resolve()
    kind = _kind(place)
    print(f"\nData lies in {place} ({kind}), which takes {_sync_time(place) * 1e6:,.0f} µs to write 4 KiB for good.")
    if kind in ("tmpfs", "ramfs"):
        print("THAT IS MEMORY, and flatters every figure of stored runs: set TMPDIR to a directory on a disk.")


def _kind(place: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(len(point), kind) for point, kind in mounts if place.is_relative_to(point)]
    return max(around)[1] if around else "unknown"


def _sync_time(place: Path) -> float:
    """Seconds for appending 4 KiB and `fdatasync`, the median of many."""
    with tempfile.TemporaryFile(dir=place) as file:
        taken: list[float] = []
        for _ in range(100):
            begun = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return median(taken)
