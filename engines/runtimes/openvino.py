"""OpenVINO, on processors: what a graph computes in is always said, and its front end stays in fp32.

Names of properties and what they do: OpenVINO's documentation, "CPU Device".
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineInvalidError, OutOfMemoryError, RuntimeUnavailableError
from engines.host import engine_threads
from engines.manifest import Graph
from engines.runtimes import Device, RuntimeOptions, first_line, front_end

# How many features of a frame share a step where products are in int8; a graph says it under this name.
GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
# By itself OpenVINO keeps the kernels of 5000 shapes, and every new length has some.
KERNELS = 64
REPORTS = "openvino_telemetry"
# What OpenVINO and its kernels say of an allocation that failed, where they do not raise a MemoryError.
NO_MEMORY = re.compile(r"(?:bad[_ ]alloc|[Ff]ailed to allocate|[Cc]annot allocate|out of memory).*")


class OpenVino:
    """Loads graphs into compiled models of OpenVINO."""

    name = "openvino"

    def describe(self, device: Device, device_id: int = 0) -> dict[str, str | int]:
        """Return OpenVINO's version."""
        return {self.name: _import().__version__, "device": "cpu"}

    def refusal(self, graph: Graph, options: RuntimeOptions) -> str | None:
        """Return why this host cannot run `graph`: a device or a precision that is not there."""
        has_bf16 = _has_bf16()
        if options.device == "cuda":
            return "it runs on processors alone, and the device is set to cuda"
        if graph.precision == "bf16" and not has_bf16:
            return "this processor has no bf16 (avx512_bf16 or amx_bf16)"
        return None

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> OpenVinoSession:
        """Load `graph`; RuntimeUnavailableError for the reasons of `refusal`."""
        reason = self.refusal(graph, options)
        if reason is not None:
            raise RuntimeUnavailableError(f"{folder / graph.file} cannot be loaded by OpenVINO: {reason}")
        # What is between the products of int8 is in bf16 where the processor has it: the replay has the last word.
        in_bf16 = graph.precision == "bf16" or (graph.precision == "int8" and _has_bf16())
        return compile_graph(folder / graph.file, options, "bf16" if in_bf16 else "f32")


def compile_graph(path: Path, options: RuntimeOptions, arithmetic: str) -> OpenVinoSession:
    """Load the graph at `path`, to compute in `arithmetic`, f32 or bf16, even where that is slow."""
    properties = {
        "INFERENCE_NUM_THREADS": options.threads or engine_threads(),
        # One batch at a time has all threads, and runs that come together wait for one another.
        "NUM_STREAMS": 1,
        # Pinned threads would fight for a core with those of the server, and of other engines.
        "ENABLE_CPU_PINNING": False,
        "CPU_RUNTIME_CACHE_CAPACITY": KERNELS,
        "CACHE_DIR": "",
    }
    core = _core()
    try:
        with _allocating(f"{path}"):
            model = core.read_model(path)
            stated = ["framework", GROUP]
            properties[GROUP] = int(model.get_rt_info(stated).value) if model.has_rt_info(stated) else 0
            parts = [("f32", model)]
            if arithmetic == "bf16":  # in which a waveform and its spectrum would lose all that is faint
                head, rest = front_end.split(core.read_model(path), model)
                parts = [("f32", head), ("bf16", rest)]
            return OpenVinoSession(
                [
                    core.compile_model(model, "CPU", {**properties, "INFERENCE_PRECISION_HINT": precision})
                    for precision, model in parts
                ]
            )
    except OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise EngineInvalidError(
            f"{path} cannot be loaded by OpenVINO {_import().__version__} ({first_line(error)}); "
            "export the engine again"
        ) from None


def _import() -> Any:
    # Its import reports to its makers over the network, unless this package, as None says, cannot be imported.
    sys.modules.setdefault(REPORTS, None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise RuntimeUnavailableError("openvino is not installed: pip install 'sonant[openvino]'") from None
    return openvino


@functools.cache
def _core() -> Any:
    """Return what loads graphs, of which a process needs one."""
    return _import().Core()


def _has_bf16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextmanager
def _allocating(what: str) -> Iterator[None]:
    """Raise OutOfMemoryError where there is not enough memory for `what`, and any other exception as it is."""
    try:
        yield
    except MemoryError as error:
        reason = first_line(error)
    except RuntimeError as error:
        found = NO_MEMORY.search(str(error))
        if found is None:
            raise
        reason = found[0][:200]
    else:
        return
    raise OutOfMemoryError(f"not enough memory for {what}: {reason}")


class OpenVinoSession:
    """One graph in OpenVINO, in one or more parts of which each reads what those before it left; safe for threads."""

    device = "cpu"

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = tuple(parts)
        self.inputs = tuple(port.any_name for port in parts[0].inputs)
        # One may have several names: an output, and what the next part calls it.
        self.outputs = tuple(name for port in parts[-1].outputs for name in sorted(port.names))

    @property
    def arithmetic(self) -> str:
        """What it really computes in: f32 or bf16."""
        return str(self._parts[-1].get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run one batch, of which the named outputs are copied."""
        tensor = _import().Tensor
        with _allocating(f"a batch {list(waveform.shape)}"):
            given = {name: tensor(array) for name, array in (("waveform", waveform), ("lengths", lengths))}
            for part in self._parts:
                # A request serves one thread, and keeps the outputs of its largest batch: a new one takes 0.3 ms.
                request = part.create_infer_request()
                for port in part.inputs:
                    request.set_tensor(port, next(given[name] for name in port.names if name in given))
                request.infer()
                given |= {name: request.get_tensor(port) for port in part.outputs for name in port.names}
            return {name: np.array(given[name].data) for name in outputs}
