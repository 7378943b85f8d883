"""`python -m tests.server.faulty serve ...`: the real server, whose engines fail on the clips that say so."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import runtimes
from engines.errors import OutOfMemoryError
from engines.manifest import Graph
from engines.runtimes import Runtime, RuntimeOptions, Session
from tests.server.process import GO, HELD

PROGRAM = ("-m", "tests.server.faulty")
# The first sample of a clip that is to fail, and what the second is multiplied by to get the number of the fault. Both
# survive a float WAV file at the engine's own sample rate.
MARK = np.float32(0.7654321)
SCALE = 64
FAULTS = ("raise", "nan", "memory", "slow", "hang", "crash", "hold")
SLOW_SECONDS = 1.0
FOR_EVER_SECONDS = 3600.0

Run = Callable[[NDArray[np.float32], NDArray[np.int64], Sequence[str]], dict[str, NDArray[Any]]]


def poisoned(clip: NDArray[np.float32], fault: str) -> NDArray[np.float32]:
    """Return a clip that makes every batch which it is in fail like that."""
    marked = clip.copy()
    marked[:2] = MARK, np.float32(FAULTS.index(fault) / SCALE)
    return marked


def faults(waveform: NDArray[np.float32]) -> list[str | None]:
    """Return what is to become of each row."""
    return [FAULTS[round(float(row[1] * SCALE))] if row[0] == MARK else None for row in waveform]


def run(real: Run, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]) -> dict[str, Any]:
    """Run a batch, unless one of its rows says otherwise."""
    found = faults(waveform)
    if "crash" in found:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in found:
        time.sleep(FOR_EVER_SECONDS)
    if "hold" in found:
        hold()
    if "slow" in found:
        time.sleep(SLOW_SECONDS)
    if "raise" in found:
        raise RuntimeError("this clip is poison")
    if "memory" in found and len(found) > 1:
        raise OutOfMemoryError("this clip leaves no room for others")
    arrays = real(waveform, lengths, outputs)
    for index, fault in enumerate(found):
        for array in arrays.values() if fault == "nan" else ():
            if array.dtype == np.float32:
                array[index] = np.nan
    return arrays


def hold() -> None:
    """Keep the engine until the test lets it go: see `tests.server.process.Server.held`."""
    folder = Path(os.environ["SONANT_CACHE"])
    (folder / HELD).touch()
    while not (folder / GO).exists():
        time.sleep(0.005)
    (folder / HELD).unlink()


class FaultyRuntime:
    """Loads what another runtime loads."""

    def __init__(self, real: Runtime) -> None:
        self._real = real
        self.name = real.name
        self.describe = real.describe
        self.refusal = real.refusal

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> Session:
        session: Any = self._real.load(folder, graph, options)
        session.run = partial(run, session.run)
        return session  # type: ignore[no-any-return]


def main() -> int:
    """Run the console command."""
    from sonant.cli import main as sonant

    real = runtimes.find
    runtimes.find = lambda name: FaultyRuntime(real(name))
    return sonant()


if __name__ == "__main__":
    sys.exit(main())
