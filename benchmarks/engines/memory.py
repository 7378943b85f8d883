"""How much memory a process takes that runs one form of an engine: in a process of its own, which does nothing else.

It is run as a command, so it imports little: what it imports, it has.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines import host

if TYPE_CHECKING:
    from engines.batch import Clip

KIB_PER_GIB = 2**20
RESET = "5"  # what the kernel resets a peak for, when it is written to clear_refs: proc_pid_clear_refs(5)
Size = tuple[float, int]  # seconds, clips in a batch
Peaks = dict[Size, float]  # GiB


def peaks(side: Sequence[str], sizes: Sequence[Size], threads: int) -> Peaks:
    """Return the most memory, in GiB, that a process had while it ran each batch, weights and libraries included.

    `side` is ["engine", FOLDER, FORM] or ["transformers", CHECKPOINT]. Where the system cannot tell (it is not Linux),
    there are none. Raises ValueError where the process fails.
    """
    if not Path("/proc/self/clear_refs").exists():
        return {}
    smallest_first = sorted(set(sizes), key=lambda size: (size[0] * size[1], size))
    order = json.dumps({"sizes": smallest_first, "threads": threads, "side": list(side)})
    done = subprocess.run([sys.executable, "-m", __name__, order], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(side)}: its memory could not be measured: {done.stderr[-500:]}")
    kib = json.loads(done.stdout.splitlines()[-1])
    return {size: peak / KIB_PER_GIB for size, peak in zip(smallest_first, kib, strict=True)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run each batch once; print the peaks in KiB as a list."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.memory", description="What peaks() starts.")
    parser.add_argument("order", type=json.loads)
    order = parser.parse_args(argv).order
    host.keep_little()  # as the server does
    sample_rate, run = _open(order["side"], order["threads"])
    found = []
    for seconds, batch in order["sizes"]:
        generator = np.random.default_rng(0)
        clips = [0.1 * generator.standard_normal(round(seconds * sample_rate), np.float32) for _ in range(batch)]
        host.trim()
        Path("/proc/self/clear_refs").write_text(RESET, encoding="ascii")
        run(clips)
        found.append(_peak_kib())
    print(json.dumps(found))
    return 0


def _open(side: Sequence[str], threads: int) -> tuple[int, Callable[[Sequence[Clip]], object]]:
    """Return the sample rate, and what computes embeddings."""
    if side[0] == "engine":
        from benchmarks.engines.opened import embeddings, in_form

        engine = in_form(Path(side[1]), side[2], threads)
        return engine.manifest.sample_rate, lambda clips: embeddings(engine, clips)
    import torch

    from benchmarks.engines.eager import Eager
    from export import checkpoint as checkpoints

    torch.set_num_threads(threads)
    eager = Eager(checkpoints.resolve(side[1]))
    return eager.sample_rate, eager


def _peak_kib() -> int:
    """Return the most memory since the reset. What getrusage says includes the process that started this one."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.exit(main())
