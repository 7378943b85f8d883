"""A graph in ONNX Runtime, on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engines.runtimes import Value
from engines.runtimes.onnxruntime.allocating import allocating


@dataclass(frozen=True)
class OnnxValue:
    """An array on a session's device."""

    value: Any  # OrtValue
    device_id: int = 0

    def numpy(self) -> NDArray[Any]:
        """Return the array: on a CPU a view, from a GPU a copy."""
        with allocating("a copy of what a decoder keeps"):
            return self.value.numpy()  # type: ignore[no-any-return]

    def select(self, rows: NDArray[np.int64], frames: int) -> OnnxValue:
        """Return [rows, :, :frames]: ONNX Runtime has no such operation outside of a graph, so numpy does it."""
        with allocating("what the clips that are left keep"):
            kept = self.numpy()[rows, :, :frames]
        return placed(kept, self.value.device_name(), self.device_id)


def placed(array: NDArray[np.generic], device: str, device_id: int = 0) -> OnnxValue:
    """Put `array` on a device; not copied on a CPU."""
    from onnxruntime import OrtValue

    with allocating(f"an array {list(array.shape)}"):
        return OnnxValue(OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, device_id), device_id)


class OnnxSession:
    """One graph in ONNX Runtime; safe to share between threads."""

    device = "cpu"
    device_id = 0

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(value.name for value in session.get_inputs())
        self.outputs = tuple(value.name for value in session.get_outputs())

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run one batch."""
        names = list(outputs)
        with allocating(f"a batch {list(waveform.shape)}"):
            arrays = self._session.run(names, {"waveform": waveform, "lengths": lengths})
        return dict(zip(names, arrays, strict=True))

    def place(self, array: NDArray[np.generic]) -> OnnxValue:
        """Put `array` on the device; not copied on a CPU."""
        return placed(array, self.device, self.device_id)

    def compute(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Value]:
        """Run the graph; its outputs stay on the device."""
        with allocating("a step of the decoder, or its start"):
            binding = self._session.io_binding()
            for name, given in inputs.items():
                binding.bind_ortvalue_input(name, cast(OnnxValue, given).value)
            found = self._run_bound(binding, outputs)
        return {name: OnnxValue(value, self.device_id) for name, value in found.items()}

    def _run_bound(self, binding: Any, outputs: Sequence[str], samples: int = 0) -> dict[str, Any]:
        """Run what `binding` holds the inputs of, a batch of so many padded samples or a step of a decoder.

        Return the OrtValues of `outputs`, where they were computed.
        """
        for name in outputs:
            binding.bind_output(name, self.device, self.device_id)
        self._session.run_with_iobinding(binding, self._run_options(samples))
        return dict(zip(outputs, binding.get_outputs(), strict=True))

    def _run_options(self, samples: int) -> Any:
        """Return the options of such a run; None: the usual ones."""
        return None
