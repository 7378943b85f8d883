"""What of this host the process may use: cores and memory, within its affinity and its control groups.

Control groups are read as the kernel documents them: admin-guide/cgroup-v2 (`cpu.max`, `memory.max`) and
admin-guide/cgroup-v1, scheduler/sched-bwc. A limit may stand at any level above the process.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

PROC, SYSTEM = Path("/proc"), Path("/sys")

# What the C library is asked for, by the parameters of mallopt(3) and the variables that set them.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# Blocks from this size on are given back when they are freed, and zeroed by the system when they are taken again: where
# that begins at 1 MiB, small engines pay for it in every run.
FREED_AT_ONCE_BYTES = 4 * 2**20
# What is kept of the smaller ones at the end of a heap. Less would be given back and taken again within each run.
KEPT_BYTES = 16 * 2**20
ARENAS = 2


def cores() -> int:
    """Return how many physical cores' worth of time the process may use, rounded down, at least 1."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = {_siblings(cpu) for cpu in usable}  # two threads of one core name the same siblings
    return max(1, min([len(siblings), *(int(quota) for quota in _quotas())]))


def engine_threads() -> int:
    """Return the threads inside one operation where nobody says: one core's worth is left for HTTP and decoding."""
    return max(1, cores() - 1)


def memory() -> int | None:
    """Return the bytes of memory that the host and the control groups let the process have; None if nobody knows."""
    return min([*_meminfo("MemTotal"), *(limit for limit, _ in _memory_groups())], default=None)


def free_memory() -> int | None:
    """Return how many bytes of that are left, with what the system can take from its caches; None if nobody knows."""
    groups = (max(0, limit - used) for limit, used in _memory_groups())
    return min([*_meminfo("MemAvailable"), *groups], default=None)


def trim() -> None:
    """Have the C library give back what it keeps for later: a little after loading, most of an engine after unloading.

    It would hide what is taken next from who measures that.
    """
    of_glibc = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if of_glibc is not None:
        of_glibc(0)


def keep_little() -> None:
    """Have the C library keep little of what is freed. Call it before there are threads.

    By itself it has eight arenas a core, each with gaps of its own, and comes to keep blocks of up to 32 MiB and twice
    that at the end of a heap: memory grows for as long as threads meet new lengths. What the environment says holds.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is None:  # not glibc
        return
    for variable, parameter, value in (
        ("MALLOC_MMAP_THRESHOLD_", M_MMAP_THRESHOLD, FREED_AT_ONCE_BYTES),
        ("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, KEPT_BYTES),
        ("MALLOC_ARENA_MAX", M_ARENA_MAX, ARENAS),
    ):
        if variable not in os.environ:
            set_parameter(parameter, value)


def processor() -> str:
    """Return the name of the processor."""
    for line in _lines(PROC / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """Return the instructions that the processor has, by Linux's names such as "avx2"; none where nobody knows."""
    for line in _lines(PROC / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:  # x86-64, Arm
            return frozenset(value.split())
    return frozenset()


def _siblings(cpu: int) -> str:
    topology = SYSTEM / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
    return next(_lines(topology / "thread_siblings_list"), str(cpu))


def _quotas() -> Iterator[float]:
    """Yield the limits on processor time, in cores."""
    for folder in _groups("cpu"):
        version_1 = [next(_lines(folder / f"cpu.cfs_{name}_us"), "-1") for name in ("quota", "period")]
        for numbers in (next(_lines(folder / "cpu.max"), "").split(), version_1):
            if len(numbers) == 2 and all(number.isdecimal() for number in numbers):  # no limit is "max", or -1
                yield int(numbers[0]) / int(numbers[1])


def _memory_groups() -> Iterator[tuple[int, int]]:
    """Yield limit and use of each group, in bytes; what is read from files and not in use does not count."""
    for folder in _groups("memory"):
        for limit_name, used_name, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = next(_lines(folder / limit_name), "max"), next(_lines(folder / used_name), "0")
            if limit.isdecimal():
                pairs = (line.partition(" ") for line in _lines(folder / "memory.stat"))
                yield int(limit), int(used) - sum(int(value) for name, _, value in pairs if name == cached)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that hold for the process, its own first."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            # Version 1 has a tree for each set of controllers, which a container sees from its own group on.
            root = SYSTEM / "fs" / "cgroup" / controllers
            group = root / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _meminfo(name: str) -> list[int]:
    lines = (line.split() for line in _lines(PROC / "meminfo"))
    return [int(fields[1]) * 1024 for fields in lines if fields[0] == f"{name}:"]


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file of the kernel's; none where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return
    yield from text.splitlines()
