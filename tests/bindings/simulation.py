"""A GPU and TensorRT as the code for them sees both: real names and signatures, behind them numpy and ONNX Runtime.

What is put into a stream happens when somebody waits for it, so that what is read too early, or written too late, is
wrong here as it would be there. It shows that our calls fit together; of TensorRT itself it shows nothing.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import onnxruntime
from cuda.bindings import runtime as real
from numpy.typing import NDArray

from engines.digest import sha256
from tests.bindings.strict import Strict

Arrays = dict[str, NDArray[Any]]
Fault = Callable[[Arrays, Arrays], Arrays]  # inputs and outputs -> what comes out instead
DONE = real.cudaError_t.cudaSuccess
NO_MEMORY = real.cudaError_t.cudaErrorMemoryAllocation
GARBAGE = 0x5A
KINDS = real.cudaMemcpyKind
_places: dict[str, str] = {}


@cache
def _opened(digest: str, model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def opened(model: str) -> onnxruntime.InferenceSession:
    """Return the session of a graph; of the same one in another folder, the same session."""
    digest = sha256(Path(model))
    return _opened(digest, _places.setdefault(digest, model))


class Gpu:
    """cuda.bindings.runtime with one device; `memory` is what cudaMalloc has to give."""

    def __init__(self, memory: int = 2**32, capability: tuple[int, int] = (9, 0)) -> None:
        self.memory, self.capability = memory, capability
        self.calls: list[str] = []
        self.device: dict[int, Any] = {}  # allocations by address
        self.pinned: dict[int, Any] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}

    def module(self) -> SimpleNamespace:
        """Return what stands for the module."""
        names = [name for name in dir(type(self)) if name.startswith("cuda")]
        calls = {name: self._call(name) for name in names}
        others = ("cudaError_t", "cudaMemcpyKind", "cudaStreamNonBlocking")
        return SimpleNamespace(**calls, **{name: getattr(real, name) for name in others})

    def _call(self, name: str) -> Any:
        made = create_autospec(getattr(real, name))

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return getattr(self, name)(*arguments)

        made.side_effect = call
        return made

    def cudaGetDeviceProperties(self, number: int) -> Any:  # noqa: N802
        if number != 0:
            return real.cudaError_t.cudaErrorInvalidDevice, None
        major, minor = self.capability
        found = SimpleNamespace(name=b"Simulated GPU\0\0", major=major, minor=minor, totalGlobalMem=self.memory)
        return DONE, found

    def cudaGetErrorString(self, failure: Any) -> Any:  # noqa: N802
        return DONE, failure.name.encode()

    def cudaSetDevice(self, number: int) -> Any:  # noqa: N802
        return (DONE if number == 0 else real.cudaError_t.cudaErrorInvalidDevice,)

    def cudaMemGetInfo(self) -> Any:  # noqa: N802
        return DONE, self.memory - sum(map(ctypes.sizeof, self.device.values())), self.memory

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:  # noqa: N802
        assert flags == real.cudaStreamNonBlocking
        handle = 1000 + len(self.streams)
        self.streams[handle] = []
        return DONE, real.cudaStream_t(handle)

    def cudaStreamDestroy(self, stream: int) -> Any:  # noqa: N802
        assert self.streams.pop(stream) == []
        return (DONE,)

    def cudaStreamSynchronize(self, stream: int) -> Any:  # noqa: N802
        under_way, self.streams[stream] = self.streams[stream], []
        for work in under_way:
            work()
        return (DONE,)

    def cudaMalloc(self, size: int) -> Any:  # noqa: N802
        if size > self.cudaMemGetInfo()[1]:
            return NO_MEMORY, None
        return DONE, self._allocate(self.device, size)

    def cudaFree(self, address: int) -> Any:  # noqa: N802
        del self.device[address]
        return (DONE,)

    def cudaMallocHost(self, size: int) -> Any:  # noqa: N802
        return DONE, self._allocate(self.pinned, size)

    def cudaFreeHost(self, address: int) -> Any:  # noqa: N802
        del self.pinned[address]
        return (DONE,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: int) -> Any:  # noqa: N802
        there, here = {
            KINDS.cudaMemcpyHostToDevice: (self.device, self.pinned),
            KINDS.cudaMemcpyDeviceToHost: (self.pinned, self.device),
        }[kind]
        assert ctypes.sizeof(there[target]) >= size <= ctypes.sizeof(here[source])

        def copy() -> None:
            ctypes.memmove(target, source, size)

        self.streams[stream].append(copy)
        return (DONE,)

    def array(self, address: int, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a view of what lies on the device."""
        flat: NDArray[Any] = np.frombuffer(memoryview(self.device[address]), np.uint8)
        found: NDArray[Any] = flat[: int(np.prod(shape)) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
        return found

    @staticmethod
    def _allocate(where: dict[int, Any], size: int) -> int:
        memory = (ctypes.c_uint8 * size)(*([GARBAGE] * min(size, 64)))
        address = ctypes.addressof(memory)
        where[address] = memory
        return address


class TensorRt:
    """The module tensorrt. A plan is a few lines about the graph that it was built from."""

    def __init__(self, bindings: ModuleType, strict: Strict, gpu: Gpu) -> None:
        self.real, self.strict, self.gpu = bindings, strict, gpu
        self.calls: list[tuple[Any, ...]] = []  # of the builder and its parts, in their order
        self.runs: list[tuple[Any, ...]] = []  # of the execution context
        self.fault: Fault = lambda inputs, outputs: outputs
        self.said: list[str] = []  # what the builder says before it fails; it fails if there is anything
        self.kept: list[str] = []  # outputs of the network
        self.shapes: list[dict[str, list[tuple[int, ...]]]] = []  # of the profiles
        self.taken = True  # whether plans can be deserialized
        self.failure = ""  # what is said where execution fails; it fails if there is anything

    def module(self) -> ModuleType:
        """Return what stands for the module: all of the real one but what would need the library."""
        made = ModuleType("tensorrt")
        vars(made).update({name: value for name, value in vars(self.real).items() if not name.startswith("__")})
        vars(made)["__version__"] = self.real.__version__
        for name, make in (("Builder", self.builder), ("OnnxParser", self.parser), ("Runtime", self.runtime)):
            setattr(made, name, self.strict.maker(name, make))
        return made

    def _noted(self, calls: list[tuple[Any, ...]], name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append((name, *arguments, *named.items()))
            return make(*arguments, **named)

        return call

    def _mock(self, name: str, calls: list[tuple[Any, ...]], **behaviours: Callable[..., Any]) -> Any:
        noted = {key: self._noted(calls, f"{name}.{key}", behaviour) for key, behaviour in behaviours.items()}
        return self.strict.mock(name, noted)

    # --- building

    def builder(self, logger: Any) -> Any:
        """Stand for Builder."""
        self.logger = logger
        self.kept.clear()
        self.shapes.clear()
        return self._mock(
            "Builder",
            self.calls,
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=self._profile,
            build_serialized_network=self._build,
        )

    def _network(self, flags: int = 0) -> Any:
        tensors: dict[str, Any] = {}

        def tensor(name: str) -> Any:
            if name not in tensors:
                tensors[name] = self.strict.mock("ITensor")
                tensors[name].name, tensors[name].is_shape_tensor = name, False
            return tensors[name]

        network = self.strict.mock(
            "INetworkDefinition",
            {
                "get_input": lambda index: tensor(("waveform", "lengths")[index]),
                "get_output": lambda index: tensor(self.kept[index]),
                "unmark_output": lambda tensor: self._unmark(network, tensor.name),
            },
        )
        network.num_inputs = 2
        self.network = network
        return network

    def _unmark(self, network: Any, name: str) -> None:
        self.kept.remove(name)
        network.num_outputs = len(self.kept)

    def parser(self, network: Any, logger: Any) -> Any:
        """Stand for OnnxParser."""
        made = self._mock("OnnxParser", self.calls, parse_from_file=self._parse, get_error=self._error)
        made.num_errors = 7
        return made

    def _error(self, index: int) -> Any:
        said = {"node_name": f"node_{index}", "node_operator": "DFT", "desc": "not supported"}
        return self.strict.mock("ParserError", {name: lambda text=text: text for name, text in said.items()})

    def _parse(self, model: str) -> bool:
        if not Path(model).is_file():
            return False
        self.source = model
        self.kept = [value.name for value in opened(model).get_outputs()]
        self.network.num_outputs = len(self.kept)
        return True

    def _config(self) -> Any:
        made = self._mock(
            "IBuilderConfig",
            self.calls,
            clear_flag=lambda flag: None,
            set_flag=lambda flag: None,
            set_memory_pool_limit=lambda pool, size: None,
            add_optimization_profile=lambda profile: len(self.shapes) - 1,
            create_timing_cache=self._cache,
            set_timing_cache=lambda cache, ignore_mismatch: cache.held != b"of another GPU",
        )
        self.config = made
        return made

    def _cache(self, data: bytes) -> Any:
        made = self.strict.mock("ITimingCache", {"serialize": lambda: data + b"!"})
        object.__setattr__(made, "held", data)
        return made

    def _profile(self) -> Any:
        shapes: dict[str, list[tuple[int, ...]]] = {}
        self.shapes.append(shapes)

        def set_shape(name: str, *three: Any) -> None:
            shapes[name] = [tuple(shape[:]) for shape in three]

        return self._mock("IOptimizationProfile", self.calls, set_shape=set_shape)

    def _build(self, network: Any, config: Any) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 2)
        monitor.phase_start("Timing", "Building", 3)
        goes_on = monitor.step_complete("Timing", 2)
        monitor.phase_finish("Timing")
        monitor.phase_finish("Building")
        for message in self.said:
            self.logger.log(self.real.ILogger.Severity.ERROR, message)
        if self.said or not goes_on:
            return None
        return json.dumps({"source": self.source, "outputs": self.kept, "profiles": self.shapes}).encode()

    # --- running

    def runtime(self, logger: Any) -> Any:
        """Stand for Runtime."""
        self.logger = logger
        made = self._mock("Runtime", self.runs, deserialize_cuda_engine=self._engine)
        made.engine_host_code_allowed = False
        self.last_runtime = made
        return made

    def _engine(self, data: bytes) -> Any:
        if not self.taken:
            self.logger.log(self.real.ILogger.Severity.ERROR, "The engine plan file is not compatible")
            return None
        plan = json.loads(data)
        trt, names = self.real, ["waveform", "lengths", *plan["outputs"]]
        session = opened(plan["source"])
        types = {value.name: value.type for value in (*session.get_inputs(), *session.get_outputs())}
        dtypes = {"tensor(float)": trt.DataType.FLOAT, "tensor(int64)": trt.DataType.INT64}
        made = self.strict.mock(
            "ICudaEngine",
            {
                "get_tensor_name": lambda index: names[index],
                "get_tensor_mode": lambda name: (
                    trt.TensorIOMode.INPUT if name in names[:2] else trt.TensorIOMode.OUTPUT
                ),
                "get_tensor_dtype": lambda name: dtypes[types[name]],
                "get_tensor_location": lambda name: trt.TensorLocation.DEVICE,
                "get_tensor_profile_shape": lambda name, index: [
                    trt.Dims(shape) for shape in plan["profiles"][index][name]
                ],
                "create_execution_context": lambda strategy: self._context(plan, session),
            },
        )
        made.num_io_tensors, made.num_optimization_profiles = len(names), len(plan["profiles"])
        return made

    def _context(self, plan: Any, session: Any) -> Any:
        state = SimpleNamespace(profile=0, shapes={}, addresses={}, found={})
        lengths: dict[int, list[tuple[int, ...]]] = {}

        def switch(index: int, stream: int) -> bool:
            state.profile, state.shapes = index, {}
            return stream in self.gpu.streams

        def set_shape(name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = plan["profiles"][state.profile][name]
            state.shapes[name] = shape
            return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

        def address(name: str, memory: int) -> bool:
            state.addresses[name] = memory
            return memory in self.gpu.device

        def infer() -> list[str]:
            rows, samples = state.shapes["waveform"]
            if samples not in lengths:  # ONNX Runtime does not infer shapes before it runs
                zeros = {"waveform": np.zeros((1, samples), np.float32), "lengths": np.array([samples])}
                lengths[samples] = [array.shape[1:] for array in session.run(plan["outputs"], zeros)]
            shapes = [(rows, *shape) for shape in lengths[samples]]
            state.found = dict(zip(plan["outputs"], shapes, strict=True))
            return []

        def execute(stream: int) -> bool:
            if self.failure:
                self.logger.log(self.real.ILogger.Severity.ERROR, self.failure)
                return False
            addresses, shapes = dict(state.addresses), dict(state.shapes)

            def run() -> None:
                dtypes = {"waveform": np.float32, "lengths": np.int64}
                inputs = {name: self.gpu.array(addresses[name], dtypes[name], shapes[name]).copy() for name in dtypes}
                arrays = dict(zip(plan["outputs"], session.run(plan["outputs"], inputs), strict=True))
                for name, array in self.fault(inputs, arrays).items():
                    self.gpu.array(addresses[name], array.dtype, array.shape)[...] = array

            self.gpu.streams[stream].append(run)
            return True

        return self._mock(
            "IExecutionContext",
            self.runs,
            set_optimization_profile_async=switch,
            set_input_shape=set_shape,
            set_tensor_address=address,
            infer_shapes=infer,
            get_tensor_shape=lambda name: self.real.Dims(state.found[name]),
            execute_async_v3=execute,
        )
