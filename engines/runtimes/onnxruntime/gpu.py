"""A graph in ONNX Runtime, on a GPU.

Each run has a stream of its own, which ONNX Runtime makes and waits for at its end: several threads may run one
session, and nothing would be gained by a stream of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes import cuda, pinned
from engines.runtimes.onnxruntime.allocating import allocating, shortage
from engines.runtimes.onnxruntime.arena import Arena
from engines.runtimes.onnxruntime.session import OnnxSession

# What the contract has on the outside, whatever the precision inside.
DTYPES: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class GpuSession(OnnxSession):
    """One graph on one GPU."""

    device = "cuda"

    def __init__(self, session: Any, device_id: int) -> None:
        super().__init__(session)
        self.device_id = device_id
        self._arena = Arena(device_id)
        pinned.memory.begin(cuda.pin)

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run one batch; what is named in `outputs`, and nothing else, is copied back, each array at once.

        Padding is copied with it. The scheduler keeps it to a tenth of a batch; to copy row by row would save less
        than the calls take: some 10 us each, in which the bus moves half a megabyte.
        """
        with allocating(f"a batch {list(waveform.shape)}"):
            binding = self._session.io_binding()
            binding.bind_cpu_input("waveform", waveform)
            binding.bind_cpu_input("lengths", lengths)
            values = self._run_bound(binding, outputs, waveform.size)
            return self._download(values)

    def _run_bound(self, binding: Any, outputs: Sequence[str], samples: int = 0) -> dict[str, Any]:
        try:
            return super()._run_bound(binding, outputs, samples)
        except Exception as error:
            if shortage(error):
                self._arena.short()
            raise

    def _run_options(self, samples: int) -> Any:
        return self._arena.run_options(samples)

    def _download(self, values: dict[str, Any]) -> dict[str, NDArray[np.generic]]:
        """Copy `values` into host memory; a run has ended on the GPU when ONNX Runtime returns."""
        arrays = {name: pinned.memory.empty(tuple(value.shape()), dtype_of(value)) for name, value in values.items()}
        cuda.download([(arrays[name], value.data_ptr()) for name, value in values.items()], self.device_id)
        return arrays


def dtype_of(value: Any) -> type[np.generic]:
    """Return the type of what is in an OrtValue."""
    return DTYPES[value.data_type()]
