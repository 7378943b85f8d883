"""TensorRT: runs plans, each built for one version of TensorRT and one kind of GPU.

The modules of this package import `tensorrt` and `cuda.bindings`, which are there on GPU hosts only: they are imported
when a plan is looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import RuntimeUnavailableError
from engines.manifest import Graph
from engines.runtimes import Device, RuntimeOptions

if TYPE_CHECKING:
    from engines.runtimes.tensorrt.device import Properties
    from engines.runtimes.tensorrt.session import TensorRtSession

NEEDS = "pip install 'sonant[tensorrt]'"


class TensorRt:
    """Loads plans."""

    name = "tensorrt"

    def describe(self, device: Device, device_id: int = 0) -> dict[str, str | int]:
        """Return TensorRT's version, and GPU `device_id`. Raises RuntimeUnavailableError where either is missing."""
        gpu = gpu_of(device_id)
        return {self.name: version(), "device": "cuda", "gpu": gpu.name, "gpu_memory": gpu.memory}

    def refusal(self, graph: Graph, options: RuntimeOptions) -> str | None:
        """Return why this host cannot run `graph`: the plan was built for another, or no GPU is to be used."""
        if options.device == "cpu":
            return "a plan runs on a GPU, and the device is set to cpu"
        gpu, plan = gpu_of(options.device_id), graph.plan
        if plan is None or (plan.tensorrt, plan.compute_capability) == (version(), gpu.capability):
            return None
        return (
            f"it was built by TensorRT {plan.tensorrt} for compute capability {plan.compute_capability}, this host has "
            f"TensorRT {version()} and {gpu.capability}: run `sonant build` here"
        )

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> TensorRtSession:
        """Load a plan; RuntimeUnavailableError where it was built for another host, EngineInvalidError if it is broken.

        Raises OutOfMemoryError where the GPU has not enough memory for it.
        """
        refusal = self.refusal(graph, options)
        if refusal is not None:
            raise RuntimeUnavailableError(f"{folder / graph.file}: {refusal}")
        from engines.runtimes.tensorrt.session import TensorRtSession

        return TensorRtSession(folder, graph, options.device_id)


def version() -> str:
    """Return the version of TensorRT; RuntimeUnavailableError where there is none."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: its libraries, which it loads itself
        raise RuntimeUnavailableError(f"TensorRT cannot be imported ({error}): {NEEDS}") from None
    return str(tensorrt.__version__)


def gpu_of(number: int) -> Properties:
    """Return what GPU `number` is; RuntimeUnavailableError where there is none."""
    try:
        from engines.runtimes.tensorrt import device
    except ImportError as error:
        raise RuntimeUnavailableError(f"cuda-python cannot be imported ({error}): {NEEDS}") from None
    return device.properties(number)
