"""What executes a graph. One module per runtime, each behind the Protocol below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engines.errors import RuntimeUnavailableError
from engines.manifest import Graph, Precision, Profile, RuntimeName

Device = Literal["auto", "cpu", "cuda"]
# How ONNX Runtime finds the algorithm of a convolution on a GPU, for each shape that it meets: by a quick heuristic of
# cuDNN's; without any; or by a thorough one. Which is fastest depends on the model: `auto` is the heuristic, until
# another was measured to be faster.
ConvSearch = Literal["auto", "heuristic", "default", "exhaustive"]


# The largest error that a graph in fp32 may have, whose sums another host takes in another order.
EXACT = 1e-4


@dataclass(frozen=True)
class TensorRtProvider:
    """How ONNX Runtime uses its TensorRT provider."""

    profiles: tuple[Profile, ...]  # by length, for which it builds when a graph is loaded
    cache: Path  # folder where it keeps what it built


@dataclass(frozen=True)
class RuntimeOptions:
    """How to run an engine on this host."""

    device: Device = "auto"
    threads: int = 0  # threads inside one operation; 0: all physical cores that the process may use but one
    batch_bytes: int = 0  # memory that one batch may take; 0: a quarter of what is free
    runtime: Literal["auto"] | RuntimeName = "auto"
    precision: Literal["auto"] | Precision = "auto"
    max_error: float = EXACT  # of the forms among which auto chooses
    device_id: int = 0  # which GPU, of those that the process sees
    device_bytes: int = 0  # memory that one graph may take on it beside its weights; 0: no limit
    device_ids: tuple[int, ...] = ()  # several GPUs, an engine on each: see engines.replicas
    conv_search: ConvSearch = "auto"
    cuda_graphs: bool = False  # replay encoders shape by shape: see engines.runtimes.onnxruntime.captured
    tensorrt_provider: TensorRtProvider | None = None  # None: ONNX Runtime does not use it


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


@runtime_checkable
class ProfiledSession(Session, Protocol):
    """A loaded graph that takes batches of certain sizes only, for each of which it was built anew."""

    profiles: tuple[Profile, ...]  # by length


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

    def describe(self, device: Device, device_id: int = 0) -> dict[str, str | int]:
        """Return what measurements on this host depend on: the runtime's version, and the device it would choose.

        Of several GPUs that is the one numbered `device_id`. Raises RuntimeUnavailableError where it is not installed.
        """
        ...

    def refusal(self, graph: Graph, options: RuntimeOptions) -> str | None:
        """Return why this host cannot run `graph`, without loading it; None if nothing speaks against it.

        Raises RuntimeUnavailableError where the runtime is not installed.
        """
        ...

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> Session:
        """Load one graph of the engine in `folder`; RuntimeUnavailableError if this host cannot run it."""
        ...


def find(name: str) -> Runtime:
    """Return the runtime called `name`; the import happens here, so that a host needs only what it uses."""
    if name == "onnxruntime":
        from engines.runtimes.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    if name == "openvino":
        from engines.runtimes.openvino import OpenVino

        return OpenVino()
    if name == "tensorrt":
        from engines.runtimes.tensorrt import TensorRt

        return TensorRt()
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
