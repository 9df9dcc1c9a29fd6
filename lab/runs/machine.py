"""The machine a run is on: threads, the allocator, memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name() -> str:
    """The processor, how many cores of it there are, and the accelerator if there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    said = f"{processor}, {cores()} core{'s' if cores() > 1 else ''} used"
    return f"{said}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else said


def use_threads(wanted: int | None, processes: int = 1) -> int:
    """Fix the number of threads of this process, since sums depend on it; by default an equal share of the cores."""
    threads = wanted or max(cores() // processes, 1)
    torch.set_num_threads(threads)
    return threads


@cache
def keep_buffers() -> bool:
    """Tell glibc to keep large buffers instead of handing them back at each step, which costs page faults.

    Returns:
        Whether it was done: false on another C library, or where the environment already sets the thresholds.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    trim_threshold, mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(mmap_threshold, 1 << 30)) and bool(libc.mallopt(trim_threshold, (1 << 31) - 1))


def reset_peak_memory() -> bool:
    """Begin to measure the peak anew. A process's own peak never falls by itself: Linux resets it on request.

    Returns:
        Whether a peak can be read later that belongs to what follows.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int | None:
    """Most bytes held since the last reset: of the GPU where there is one, else of this process; null where unknown."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if not STATUS.exists():
        return None
    peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def memory() -> int | None:
    """Bytes of memory that this machine has; null where unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def versions() -> dict[str, str]:
    """What produced the numbers."""
    import lab

    return {"lab": lab.__version__, "torch": str(torch.__version__), "python": sys.version.split()[0]}
