"""What executes a graph. One module per runtime, each behind the Protocol below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engines.errors import RuntimeUnavailableError
from engines.manifest import Graph

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class RuntimeOptions:
    """How to run a graph on this host."""

    device: Device = "auto"
    threads: int = 0  # threads inside one operation; 0: all physical cores that the process may use but one
    batch_bytes: int = 0  # memory that one batch may take; 0: a quarter of what is free


class Session(Protocol):
    """A loaded graph."""

    device: str  # "cpu" or "cuda"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run waveform [batch, samples] and lengths [batch]; return the arrays named in `outputs`, in host memory.

        Raises OutOfMemoryError where an allocation fails.
        """
        ...


class Value(Protocol):
    """An array in the memory of the device that a session runs on."""

    def numpy(self) -> NDArray[Any]:
        """Return the array in host memory; it may be a view."""
        ...

    def select(self, rows: NDArray[np.int64], frames: int) -> Value:
        """Return [rows, :, :frames] of an array of four axes, on the same device."""
        ...


@runtime_checkable
class ResidentSession(Session, Protocol):
    """A loaded graph whose inputs and outputs can stay on its device, as the caches of a decoder must."""

    def place(self, array: NDArray[np.generic]) -> Value:
        """Put `array` on the device. On a CPU it is not copied: it must not change as long as the value is in use."""
        ...

    def compute(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Value]:
        """Run the graph and return the `outputs`, in this order, where they were computed.

        Raises OutOfMemoryError where an allocation fails.
        """
        ...


class Runtime(Protocol):
    """What loads graphs."""

    name: str

    def describe(self, device: Device) -> dict[str, str | int]:
        """Return what measurements on this host depend on: the runtime's version, and the device it would choose."""
        ...

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> Session:
        """Load one graph of the engine in `folder`; RuntimeUnavailableError if this host cannot run it."""
        ...


def find(name: str) -> Runtime:
    """Return the runtime called `name`; the import happens here, so that a host needs only what it uses."""
    if name == "onnxruntime":
        from engines.runtimes.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    raise KeyError(name)


def resident(session: Session) -> ResidentSession:
    """Return `session` as one that keeps arrays on its device; RuntimeUnavailableError where its runtime cannot."""
    if isinstance(session, ResidentSession):
        return session
    raise RuntimeUnavailableError(f"{type(session).__name__} cannot keep a decoder's caches; use ONNX Runtime")


def first_line(error: Exception) -> str:
    """Return the beginning of what a runtime says, which may run over pages."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
