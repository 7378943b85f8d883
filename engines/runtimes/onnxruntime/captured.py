"""Replaying on a GPU what it did before for the same shape: CUDA graphs, where the operator asks for them.

ONNX Runtime starts every kernel of a graph by itself, hundreds for one batch; of a short clip that takes longer than to
compute it. A captured graph starts with one call. It holds for one exact shape, and reads and writes the addresses that
it was captured with. Hence:

- Batches are padded up to few shapes, which our masks make exact.
- Inputs and outputs are buffers of ours, and all runs of a session are in one thread: ONNX Runtime keeps captured
  graphs by thread, and a replay writes wherever the captured run had its intermediate results, so that nothing else of
  the session may lie there. What a decoder keeps would: only encoders are captured, and the arena never shrinks.
- A shape is first captured with other sounds than those that it is then replayed with, and compared with a plain run of
  the batch as it came. Where that differs, nothing is replayed any more.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.onnxruntime.allocating import allocating
from engines.runtimes.onnxruntime.gpu import GpuSession, dtype_of
from engines.verify import error

logger = logging.getLogger(__name__)

# The run of a captured graph says which; of this one, that nothing is captured (cuda_execution_provider.cc).
GRAPH_ID, NO_GRAPH = "gpu_graph_id", -1
# ONNX Runtime captures after one or two plain runs, depending on the version.
RUNS = 3
# Lengths are padded up to eighths of a power of two: by 6 % on average.
STEPS = 8
# Each has its buffers, and its graph some megabytes in the driver.
MAX_SHAPES = 64
# The same kernels compute the same, but for sums in another order; a replay that reads what it should not is all wrong.
SAME = 1e-2

Arrays = dict[str, NDArray[np.generic]]
Key = tuple[int, int, tuple[str, ...]]  # rows and samples of a batch, and the outputs that are wanted


@dataclass(frozen=True)
class Shape:
    """The buffers of one shape, and how to run what was captured with them."""

    key: Key
    inputs: dict[str, Any]  # OrtValue, by name
    outputs: dict[str, Any]
    binding: Any  # of these
    options: Any  # of a run


class CapturedSession(GpuSession):
    """An encoder on one GPU, which replays the shapes that it knows; one batch at a time."""

    def __init__(self, session: Any, device_id: int) -> None:
        super().__init__(session, device_id)
        self._shapes: dict[Key, Shape] = {}
        self._replays = True
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"gpu-{device_id}")
        weakref.finalize(self, self._thread.shutdown, wait=False)

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run one batch, as a replay if its shape is known; the first of a shape takes as long as some five."""
        return self._thread.submit(self._run, waveform, lengths, tuple(outputs)).result()

    def _run(self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], names: tuple[str, ...]) -> Arrays:
        rows, samples = (1 << (len(waveform) - 1).bit_length()), bucket(waveform.shape[1])
        key = (rows, samples, names)
        if not self._replays or (key not in self._shapes and len(self._shapes) == MAX_SHAPES):
            return super().run(waveform, lengths, names)
        if key not in self._shapes:
            return self._capture(key, waveform, lengths)
        with allocating(f"a batch {[rows, samples]}"):
            return self._replay(self._shapes[key], waveform, lengths)

    def _run_options(self, samples: int) -> Any:
        return _options(NO_GRAPH)

    def _capture(self, key: Key, waveform: NDArray[np.float32], lengths: NDArray[np.int64]) -> Arrays:
        """Run a batch whose shape is new in the plain way, and capture the shape."""
        expected = super().run(waveform, lengths, key[2])
        try:
            shape = self._new_shape(key, _filled(key, waveform, lengths))
            for _ in range(RUNS):
                self._replay(shape, -waveform[::-1], lengths[::-1])
            longest = int(lengths.argmax())  # of which every frame counts
            differs = max(
                error(found[longest][tuple(map(slice, expected[name][longest].shape))], expected[name][longest])
                for name, found in self._replay(shape, waveform, lengths).items()
            )
        except Exception as problem:  # onnxruntime's exceptions share no base class but Exception
            logger.warning("CUDA graphs are not used any more, capturing %s fails: %s", key[:2], problem)
            self._replays = False
            return expected
        self._shapes[key] = shape
        if not differs <= SAME:
            logger.error("CUDA graphs are not used any more: replaying %s is wrong by %.1e", key[:2], differs)
            self._replays = False
        return expected

    def _new_shape(self, key: Key, batch: Arrays) -> Shape:
        """Return the buffers of a shape, as a plain run of a `batch` says how large they are."""
        from onnxruntime import OrtValue

        names = key[2]
        inputs = {
            name: OrtValue.ortvalue_from_numpy(array, self.device, self.device_id) for name, array in batch.items()
        }
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        outputs = {
            name: OrtValue.ortvalue_from_shape_and_type(value.shape(), dtype_of(value), self.device, self.device_id)
            for name, value in self._run_bound(binding, names).items()
        }
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return Shape(key, inputs, outputs, binding, _options(len(self._shapes) + 1))

    def _replay(self, shape: Shape, waveform: NDArray[np.float32], lengths: NDArray[np.int64]) -> Arrays:
        """Run a batch in the buffers of a shape."""
        for name, array in _filled(shape.key, waveform, lengths).items():
            shape.inputs[name].update_inplace(array)
        self._session.run_with_iobinding(shape.binding, shape.options)
        return {name: array[: len(waveform)] for name, array in self._download(shape.outputs).items()}


def _filled(key: Key, waveform: NDArray[np.float32], lengths: NDArray[np.int64]) -> Arrays:
    """Return a batch in the size of a shape: rows that are left over repeat the first."""
    rows, samples, _ = key
    spare = rows - len(waveform)
    padded = np.zeros((rows, samples), np.float32)
    padded[:, : waveform.shape[1]] = np.concatenate([waveform, np.repeat(waveform[:1], spare, axis=0)])
    return {"waveform": padded, "lengths": np.concatenate([lengths, np.repeat(lengths[:1], spare)])}


def bucket(samples: int) -> int:
    """Return the length that so many samples are padded up to."""
    step = max(1, (1 << samples.bit_length() - 1) // STEPS)
    return -(-samples // step) * step


def _options(graph: int) -> Any:
    from onnxruntime import RunOptions

    options = RunOptions()
    options.add_run_config_entry(GRAPH_ID, str(graph))
    return options
