"""ONNX Runtime: CPU, and CUDA where its provider is present."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineInvalidError, OutOfMemoryError, RuntimeUnavailableError
from engines.host import engine_threads
from engines.manifest import Graph
from engines.runtimes import Device, RuntimeOptions, Value, cuda, first_line

# On a CPU the fused kernel takes longer than the addition and the norm that it stands for: 3 to 5 % of an encoder.
SLOWER_FUSIONS = ["SkipLayerNormFusion"]
# What ONNX Runtime, which has no exception of its own for it, says of an allocation that failed: the C++ library, its
# arena (bfc_arena.cc: no more to be had; beyond its limit; gone between two threads), CUDA, and cuBLAS or cuDNN by the
# names of their status codes.
NO_MEMORY = re.compile(
    r"(?:bad[_ ]alloc|Failed to allocate memory|Available memory of \d+ is smaller|Failed to find a free memory block"
    r"|Memory allocation failed|out of memory|ALLOC(?:ATION)?_FAILED).*"
)


class OnnxRuntime:
    """Loads graphs into ONNX Runtime sessions."""

    name = "onnxruntime"

    def describe(self, device: Device) -> dict[str, str | int]:
        """Return ONNX Runtime's version, and the GPU where there is one and it may be used."""
        ort = _import()
        known: dict[str, str | int] = {self.name: ort.__version__, "device": "cpu"}
        if device != "cpu" and "CUDAExecutionProvider" in ort.get_available_providers():
            gpu = cuda.device()
            if gpu is not None:
                known |= {"device": "cuda", "gpu": gpu.name, "gpu_memory": gpu.memory}
        return known

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> OnnxSession:
        """Load `graph`; its external weights are memory-mapped from the same folder."""
        ort = _import()
        present = ort.get_available_providers()
        if options.device == "cuda" and "CUDAExecutionProvider" not in present:
            raise RuntimeUnavailableError(
                f"device cuda was asked for, but this onnxruntime has only {', '.join(present)}: "
                "install sonant[gpu] in place of sonant[serve]"
            )
        on_gpu = options.device != "cpu" and "CUDAExecutionProvider" in present
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = options.threads or engine_threads()
        session_options.log_severity_level = 3
        # Waiting threads would take the cores from decoding and from the other engines.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena keeps the largest batch ever seen; freed memory goes back to the system instead.
        session_options.enable_cpu_mem_arena = False
        providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
        if on_gpu:
            # HEURISTIC: an exhaustive search would tune every new shape inside a request. TF32 would cost 3 digits.
            cuda_options = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
            providers.insert(0, ("CUDAExecutionProvider", cuda_options))
        try:
            with _allocating(f"{folder / graph.file}"):
                session = ort.InferenceSession(
                    str(folder / graph.file),
                    session_options,
                    providers=providers,
                    disabled_optimizers=[] if on_gpu else SLOWER_FUSIONS,
                )
        except OutOfMemoryError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise EngineInvalidError(
                f"{folder / graph.file} cannot be loaded by ONNX Runtime {ort.__version__} ({first_line(error)}); "
                "export the engine again"
            ) from None
        # A CUDA provider that fails to start leaves a session that runs on the CPU without a word.
        if options.device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
            raise RuntimeUnavailableError("ONNX Runtime could not start its CUDA provider; see `nvidia-smi`")
        return OnnxSession(session)


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RuntimeUnavailableError(
            "onnxruntime is not installed: pip install 'sonant[serve]', or 'sonant[gpu]' on a GPU host"
        ) from None
    return onnxruntime


@dataclass(frozen=True)
class OnnxValue:
    """An array on a session's device."""

    value: Any  # OrtValue

    def numpy(self) -> NDArray[Any]:
        """Return the array: on a CPU a view, from a GPU a copy."""
        with _allocating("a copy of what a decoder keeps"):
            return self.value.numpy()  # type: ignore[no-any-return]

    def select(self, rows: NDArray[np.int64], frames: int) -> OnnxValue:
        """Return [rows, :, :frames]: ONNX Runtime has no such operation outside of a graph, so numpy does it."""
        with _allocating("what the clips that are left keep"):
            kept = self.numpy()[rows, :, :frames]
        return _placed(kept, self.value.device_name())


def _placed(array: NDArray[np.generic], device: str) -> OnnxValue:
    from onnxruntime import OrtValue

    with _allocating(f"an array {list(array.shape)}"):
        return OnnxValue(OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device))


@contextmanager
def _allocating(what: str) -> Iterator[None]:
    """Raise OutOfMemoryError where there is not enough memory for `what`, and any other exception as it is."""
    try:
        yield
    except MemoryError as error:
        reason = first_line(error)
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        found = NO_MEMORY.search(str(error))
        if found is None:
            raise
        reason = found[0][:200]
    else:
        return
    raise OutOfMemoryError(f"not enough memory for {what}: {reason}")


class OnnxSession:
    """One graph in ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.device = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
        self.inputs = tuple(value.name for value in session.get_inputs())
        self.outputs = tuple(value.name for value in session.get_outputs())

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run one batch; on a GPU through a binding that copies back the named outputs only."""
        names = list(outputs)
        with _allocating(f"a batch {list(waveform.shape)}"):
            if self.device == "cpu":
                arrays = self._session.run(names, {"waveform": waveform, "lengths": lengths})
                return dict(zip(names, arrays, strict=True))
            binding = self._session.io_binding()
            binding.bind_cpu_input("waveform", waveform)
            binding.bind_cpu_input("lengths", lengths)
            for name in names:
                binding.bind_output(name, "cuda")
            self._session.run_with_iobinding(binding)
            return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

    def place(self, array: NDArray[np.generic]) -> OnnxValue:
        """Put `array` on the device; not copied on a CPU."""
        return _placed(array, self.device)

    def compute(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Value]:
        """Run the graph; its outputs stay on the device."""
        with _allocating("a step of the decoder, or its start"):
            binding = self._session.io_binding()
            for name, placed in inputs.items():
                binding.bind_ortvalue_input(name, cast(OnnxValue, placed).value)
            for name in outputs:
                binding.bind_output(name, self.device)
            self._session.run_with_iobinding(binding)
            return {name: OnnxValue(value) for name, value in zip(outputs, binding.get_outputs(), strict=True)}
