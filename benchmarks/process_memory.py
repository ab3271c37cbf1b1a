"""The memory of processes, on Linux."""

import os
import resource
from pathlib import Path

MIB = 2**20


def measure_memory_mib(pid: int) -> float:
    """Return the memory that a process has now, in MiB; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def measure_peak_mib() -> float:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
