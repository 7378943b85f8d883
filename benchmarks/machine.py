"""Where a measurement was taken: the processor, the versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).resolve().parent.parent
# Instructions that decide how fast a matrix product of some precision is.
FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm", "sve"),
)
PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "openvino", "nncf", "numpy")


class Machine(BaseModel):
    """The host of a measurement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    cpu: str
    flags: tuple[str, ...]
    cores: int  # as the system counts them
    usable_cores: int  # that this process may run on
    memory_gib: float
    load: float  # runnable processes over the minute before the measurement: about 0 on a quiet machine


def describe() -> Machine:
    """Describe this host."""
    info = _cpuinfo()
    present = set((info.get("flags") or info.get("Features") or "").split())
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        flags=tuple(flag for flag in FLAGS if flag in present),
        cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        load=round(os.getloadavg()[0], 2),
    )


def versions() -> dict[str, str]:
    """Return the versions of what was measured, as far as it is installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def commit() -> str | None:
    """Return the commit of this checkout, `-dirty` where files differ from it; None where git does not know."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _cpuinfo() -> dict[str, str]:
    """Return the first processor of /proc/cpuinfo; nothing where there is no such file."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
