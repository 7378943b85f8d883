"""What the kernel counts of a call: the memory that it takes at its peak, and how others held it up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engines import host

PROCESS, THREAD = Path("/proc/self"), Path("/proc/thread-self")
# Written to clear_refs it resets the peak (Linux, filesystems/proc).
RESET_PEAK = "5"


def peak_bytes(run: Callable[[], None]) -> int | None:
    """Return how far the resident memory of this process rises in `run`; None where the kernel does not say.

    Nothing else should run in the process meanwhile.
    """
    host.trim()
    try:
        (PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
        before = _status("VmRSS")
        run()
        return max(0, _status("VmHWM") - before)
    except (OSError, StopIteration):
        return None


def held_up() -> float:
    """Return the seconds that this thread could have run, but others did (sched-stats); 0 where nobody knows."""
    try:
        _, waited, *_ = (THREAD / "schedstat").read_text(encoding="ascii").split()
        return int(waited) / 1e9
    except (OSError, ValueError):
        return 0.0


def _status(name: str) -> int:
    lines = (PROCESS / "status").read_text(encoding="ascii", errors="replace").splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
