"""What executes a graph. One module per runtime, each behind the Protocol below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Graph

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class RuntimeOptions:
    """How to run a graph on this host."""

    device: Device = "auto"
    threads: int = 0  # threads inside one operation; 0: one per physical core, as the runtime counts them


class Session(Protocol):
    """A loaded graph."""

    device: str  # "cpu" or "cuda"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run waveform [batch, samples] and lengths [batch]; return the arrays named in `outputs`, in host memory."""
        ...


class Runtime(Protocol):
    """What loads graphs."""

    name: str

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> Session:
        """Load one graph of the engine in `folder`; RuntimeUnavailableError if this host cannot run it."""
        ...


def find(name: str) -> Runtime:
    """Return the runtime called `name`; the import happens here, so that a host needs only what it uses."""
    if name == "onnxruntime":
        from engines.runtimes.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    raise KeyError(name)


def first_line(error: Exception) -> str:
    """Return the beginning of what a runtime says, which may run over pages."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
