"""What memory a process has, as /proc says: Linux only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

KIB_PER_MIB = 1024
RESET_PEAK = "5"  # written to clear_refs: proc_pid_clear_refs(5)


@dataclass(frozen=True)
class Resident:
    """MiB in memory: of its own; mapped from files, which others share and the system can take back; and the peak."""

    anonymous: float
    file_backed: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read what the process `pid` has."""
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        anonymous, files, shared, peak = (
            int(fields[name].split()[0]) / KIB_PER_MIB for name in ("RssAnon", "RssFile", "RssShmem", "VmHWM")
        )
        return cls(anonymous + shared, files, peak)

    @property
    def all(self) -> float:
        """Whatever it is of."""
        return self.anonymous + self.file_backed


def reset_peak(pid: int) -> None:
    """Let the peak of the process `pid`, which must be of this user, begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK, encoding="ascii")
