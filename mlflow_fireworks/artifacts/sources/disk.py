"""Room on the disk for files that are fetched."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

# A second set may be here already, so that no upload waits while the next ones are on their way.
FILES_AHEAD = 4
_MAX_RESERVE_BYTES = 256 * 1024 * 1024


def measure_free_bytes(folder: Path) -> int:
    """Disk space in bytes that this user may still fill, but for a reserve; 0 where no other file fits.

    Args:
        folder: On the disk in question.
    """
    if (entries := count_free_entries(folder)) is not None and entries < 1:
        return 0
    usage = shutil.disk_usage(folder)
    return usage.free - min(_MAX_RESERVE_BYTES, usage.total // 10)


def count_free_entries(folder: Path) -> int | None:
    """How many more files fit by the number of inodes; None where there is no such limit.

    Args:
        folder: On the disk in question.
    """
    if not hasattr(os, "statvfs"):
        return None
    found = os.statvfs(folder)
    return found.f_favail if found.f_files else None


def bound_disk(sizes: Iterable[int], workers: int, max_disk: int | None) -> int:
    """The most bytes of fetched files that can be here at once.

    Args:
        sizes: Of all files that will be fetched, in bytes.
        workers: How many may be staged at once.
        max_disk: The store's limit, if it has one.
    """
    largest = sum(sorted(sizes, reverse=True)[: workers + FILES_AHEAD])
    return largest if max_disk is None else min(largest, max_disk)
