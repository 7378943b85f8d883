"""A loaded plan."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from engines import files
from engines.errors import EngineError, EngineInvalidError
from engines.manifest import Graph
from engines.runtimes.tensorrt import device
from engines.runtimes.tensorrt.device import Buffer, Stream
from engines.runtimes.tensorrt.log import Log
from engines.runtimes.tensorrt.provider import profile_for

AGAIN = "build it again with `sonant build`"
# What the engine contract has on the outside, whatever the precision inside.
DTYPES: dict[trt.DataType, np.dtype[Any]] = {
    trt.DataType.FLOAT: np.dtype(np.float32),
    trt.DataType.INT64: np.dtype(np.int64),
}


class TensorRtSession:
    """One plan on one GPU; safe to share between threads.

    It has one execution context and one stream, and runs one batch at a time. A second context would take the memory of
    the largest batch again, and two batches that share a GPU each take longer: a larger batch is what makes it faster.
    """

    device = "cuda"

    def __init__(self, folder: Path, graph: Graph, number: int) -> None:
        """Load the plan of `graph` on GPU `number`.

        Raises EngineInvalidError where it is broken, or not what engine.json says; OutOfMemoryError.
        """
        if graph.plan is None:
            raise EngineInvalidError(f"graph {graph.name} is no plan")
        self._path, self._number = folder / graph.file, number
        self.profiles = graph.plan.profiles
        self._lock = threading.Lock()
        self._log = Log()
        device.use(number)
        self._engine = self._deserialize()
        self.inputs = self._named(trt.TensorIOMode.INPUT)
        self.outputs = self._named(trt.TensorIOMode.OUTPUT)
        self._check_profiles()
        context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.STATIC)
        if context is None:
            raise self._failure("no execution context could be made")
        self._context = context
        self._profile: int | None = None  # in use
        self._stream = Stream()
        self._buffers = {name: Buffer(self._dtype(name), self._stream) for name in (*self.inputs, *self.outputs)}

    def _deserialize(self) -> trt.ICudaEngine:
        """Return the plan's engine. `engine_host_code_allowed` stays False: a plan is a file of somebody else's."""
        self._runtime = trt.Runtime(self._log)  # must live as long as what it makes
        try:
            files.check_regular(self._path)
            data = self._path.read_bytes()
        except OSError as error:
            raise EngineInvalidError(f"{self._path} cannot be read ({error}); {AGAIN}") from None
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise self._failure("TensorRT does not take it")
        return engine

    def _named(self, mode: trt.TensorIOMode) -> tuple[str, ...]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return tuple(name for name in names if self._engine.get_tensor_mode(name) == mode)

    def _dtype(self, name: str) -> np.dtype[Any]:
        found = self._engine.get_tensor_dtype(name)
        if found not in DTYPES or self._engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise EngineInvalidError(
                f"{self._path}: {name} is {found}, or in host memory; it must be float32 or int64 on the GPU; {AGAIN}"
            )
        return DTYPES[found]

    def _check_profiles(self) -> None:
        """Raise EngineInvalidError unless the plan has the profiles that engine.json says."""
        found = [
            [tuple(shape[:]) for shape in self._engine.get_tensor_profile_shape("waveform", index)]
            for index in range(self._engine.num_optimization_profiles)
        ]
        if found != [list(profile.shapes) for profile in self.profiles]:
            raise EngineInvalidError(f"{self._path} has other profiles than engine.json says; {AGAIN}")

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run waveform [batch, samples] and lengths [batch]; return the arrays named in `outputs`, in host memory.

        More rows than the plan takes are run in parts. Raises RuntimeUnavailableError where no profile takes clips of
        that length, EngineInvalidError where the plan fails, OutOfMemoryError.
        """
        index = profile_for(self.profiles, waveform.shape[1])
        most = self.profiles[index].max_rows
        parts = []
        with self._lock:
            device.use(self._number)
            for first in range(0, len(waveform), most):
                rows = slice(first, first + most)
                parts.append(self._run(index, {"waveform": waveform[rows], "lengths": lengths[rows]}, outputs))
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

    def _run(
        self, index: int, inputs: dict[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run one batch that profile `index` takes: switch, copies and kernels in the order of one stream."""
        self._log.forget()
        try:
            self._switch(index)
            for name, array in inputs.items():
                self._bind(name, array.shape)
                shaped = self._context.set_input_shape(name, array.shape)
                self._need(shaped, f"{name} {list(array.shape)} is not taken")
                self._buffers[name].upload(array)
            sizes = self._output_shapes()
            for name, shape in sizes.items():
                self._bind(name, shape)
            self._need(self._context.execute_async_v3(self._stream.handle), "a batch fails")
            arrays = {name: self._buffers[name].download(sizes[name]) for name in outputs}
        finally:
            self._stream.wait()  # also after a failure: a copy that is under way still uses the buffers
        return {name: array.copy() for name, array in arrays.items()}

    def _bind(self, name: str, shape: tuple[int, ...]) -> None:
        buffer = self._buffers[name]
        buffer.reserve(shape)
        self._need(self._context.set_tensor_address(name, buffer.address), f"{name} has no address")

    def _switch(self, index: int) -> None:
        if index != self._profile:
            self._profile = None  # whatever happens now
            switched = self._context.set_optimization_profile_async(index, self._stream.handle)
            self._need(switched, f"profile {index} cannot be used")
            self._profile = index

    def _output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every output, which follows from those of the inputs: none depends on their values."""
        missing = self._context.infer_shapes()
        found = {name: tuple(self._context.get_tensor_shape(name)[:]) for name in self.outputs}
        unknown = [*missing, *(name for name, shape in found.items() if min(shape, default=0) < 0)]
        self._need(not unknown, f"the shapes of {', '.join(unknown)} do not follow from those of the inputs")
        return found

    def _need(self, worked: bool, otherwise: str) -> None:
        if not worked:
            raise self._failure(otherwise)

    def _failure(self, what: str) -> EngineError:
        return self._log.error(f"{self._path}: {what}", AGAIN)
