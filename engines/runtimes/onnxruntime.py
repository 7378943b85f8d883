"""ONNX Runtime: CPU, and CUDA where its provider is present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineInvalidError, RuntimeUnavailableError
from engines.manifest import Graph
from engines.runtimes import RuntimeOptions, Value, first_line

# On a CPU the fused kernel takes longer than the addition and the norm that it stands for: 3 to 5 % of an encoder.
SLOWER_FUSIONS = ["SkipLayerNormFusion"]


class OnnxRuntime:
    """Loads graphs into ONNX Runtime sessions."""

    name = "onnxruntime"

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> OnnxSession:
        """Load `graph`; its external weights are memory-mapped from the same folder."""
        try:
            import onnxruntime as ort
        except ImportError:
            raise RuntimeUnavailableError(
                "onnxruntime is not installed: pip install 'sonant[serve]', or 'sonant[gpu]' on a GPU host"
            ) from None
        present = ort.get_available_providers()
        if options.device == "cuda" and "CUDAExecutionProvider" not in present:
            raise RuntimeUnavailableError(
                f"device cuda was asked for, but this onnxruntime has only {', '.join(present)}: "
                "install sonant[gpu] in place of sonant[serve]"
            )
        cuda = options.device != "cpu" and "CUDAExecutionProvider" in present
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session_options.log_severity_level = 3
        # Waiting threads would take the cores from decoding and from the other engines.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena keeps the largest batch ever seen; freed memory goes back to the system instead.
        session_options.enable_cpu_mem_arena = False
        providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
        if cuda:
            # HEURISTIC: an exhaustive search would tune every new shape inside a request. TF32 would cost 3 digits.
            cuda_options = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
            providers.insert(0, ("CUDAExecutionProvider", cuda_options))
        try:
            session = ort.InferenceSession(
                str(folder / graph.file),
                session_options,
                providers=providers,
                disabled_optimizers=[] if cuda else SLOWER_FUSIONS,
            )
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise EngineInvalidError(
                f"{folder / graph.file} cannot be loaded by ONNX Runtime {ort.__version__} ({first_line(error)}); "
                "export the engine again"
            ) from None
        # A CUDA provider that fails to start leaves a session that runs on the CPU without a word.
        if options.device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
            raise RuntimeUnavailableError("ONNX Runtime could not start its CUDA provider; see `nvidia-smi`")
        return OnnxSession(session)


@dataclass(frozen=True)
class OnnxValue:
    """An array on a session's device."""

    value: Any  # OrtValue

    def numpy(self) -> NDArray[Any]:
        """Return the array: on a CPU a view, from a GPU a copy."""
        return self.value.numpy()  # type: ignore[no-any-return]

    def select(self, rows: NDArray[np.int64], frames: int) -> OnnxValue:
        """Return [rows, :, :frames]: ONNX Runtime has no such operation outside of a graph, so numpy does it."""
        return _placed(self.numpy()[rows, :, :frames], self.value.device_name())


def _placed(array: NDArray[np.generic], device: str) -> OnnxValue:
    from onnxruntime import OrtValue

    return OnnxValue(OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device))


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
        binding = self._session.io_binding()
        for name, placed in inputs.items():
            binding.bind_ortvalue_input(name, cast(OnnxValue, placed).value)
        for name in outputs:
            binding.bind_output(name, self.device)
        self._session.run_with_iobinding(binding)
        return {name: OnnxValue(value) for name, value in zip(outputs, binding.get_outputs(), strict=True)}
