"""ONNX Runtime: CPU, and CUDA where its provider is present."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from engines.errors import EngineInvalidError, OutOfMemoryError, RuntimeUnavailableError
from engines.manifest import DEVICES, Graph
from engines.runtimes import Device, RuntimeOptions, Session, cuda, first_line
from engines.runtimes.onnxruntime import configuration
from engines.runtimes.onnxruntime.allocating import allocating
from engines.runtimes.onnxruntime.captured import CapturedSession
from engines.runtimes.onnxruntime.configuration import CUDA, Provider
from engines.runtimes.onnxruntime.gpu import GpuSession
from engines.runtimes.onnxruntime.session import OnnxSession, OnnxValue
from engines.runtimes.tensorrt import provider
from engines.runtimes.tensorrt.provider import BoundedSession

__all__ = ["OnnxRuntime", "OnnxSession", "OnnxValue"]


class OnnxRuntime:
    """Loads graphs into ONNX Runtime sessions."""

    name = "onnxruntime"

    def describe(self, device: Device, device_id: int = 0) -> dict[str, str | int]:
        """Return ONNX Runtime's version, and GPU `device_id` where it is there and may be used."""
        ort = _import()
        known: dict[str, str | int] = {self.name: ort.__version__, "device": "cpu"}
        if device != "cpu" and CUDA in ort.get_available_providers():
            gpu = cuda.device(device_id)
            if gpu is not None:
                known |= {"device": "cuda", "gpu": gpu.name, "gpu_memory": gpu.memory}
        return known

    def refusal(self, graph: Graph, options: RuntimeOptions) -> str | None:
        """Return why this host cannot run `graph`: it is of no use on the device."""
        if graph.devices == DEVICES:
            return None
        device = self.describe(options.device, options.device_id)["device"]
        return None if device in graph.devices else f"it is of no use on {device}"

    def load(self, folder: Path, graph: Graph, options: RuntimeOptions) -> Session:
        """Load `graph`; its external weights are memory-mapped from the same folder."""
        ort = _import()
        on_gpu = _uses_gpu(ort, options)
        plans = options.tensorrt_provider if on_gpu and provider.applies(graph) else None
        captures = on_gpu and options.cuda_graphs and graph.role == "encode" and plans is None
        weights = sum((folder / file).stat().st_size for file in graph.sha256)
        providers = configuration.providers(options, weights, on_gpu=on_gpu, captures=captures)
        if plans is not None:
            providers.insert(0, (provider.NAME, provider.options(graph, plans, options.device_id)))
        session = _session(ort, folder / graph.file, options, providers, on_gpu=on_gpu)
        # A provider that fails to start leaves a session that runs without it, and says nothing.
        if plans is not None and provider.NAME not in session.get_providers():
            raise RuntimeUnavailableError("ONNX Runtime could not start its TensorRT provider; see `sonant doctor`")
        if CUDA not in session.get_providers():
            if options.device == "cuda":
                raise RuntimeUnavailableError("ONNX Runtime could not start its CUDA provider; see `nvidia-smi`")
            return OnnxSession(session)
        if captures:
            return CapturedSession(session, options.device_id)
        found = GpuSession(session, options.device_id)
        return found if plans is None else BoundedSession(found, plans.profiles)


def _session(ort: Any, path: Path, options: RuntimeOptions, providers: Sequence[Provider], *, on_gpu: bool) -> Any:
    """Return onnxruntime.InferenceSession. Raises EngineInvalidError, OutOfMemoryError."""
    try:
        with allocating(str(path)):
            return ort.InferenceSession(
                str(path),
                configuration.session_options(ort, options, on_gpu=on_gpu),
                providers=providers,
                disabled_optimizers=[] if on_gpu else configuration.SLOWER_FUSIONS,
            )
    except OutOfMemoryError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        advice = "run it without CUDA graphs, or export" if on_gpu and options.cuda_graphs else "export"
        raise EngineInvalidError(
            f"{path} cannot be loaded by ONNX Runtime {ort.__version__} ({first_line(error)}); "
            f"{advice} the engine again"
        ) from None


def _uses_gpu(ort: Any, options: RuntimeOptions) -> bool:
    """Whether to try the CUDA provider; RuntimeUnavailableError where a GPU was asked for that there is not."""
    present = ort.get_available_providers()
    if options.device == "cuda" and CUDA not in present:
        raise RuntimeUnavailableError(
            f"device cuda was asked for, but this onnxruntime has only {', '.join(present)}: "
            "install sonant[gpu] in place of sonant[serve]"
        )
    if options.device == "cpu" or CUDA not in present or (options.device == "auto" and not cuda.count()):
        return False
    if options.device_id and cuda.device(options.device_id) is None:
        raise RuntimeUnavailableError(
            f"there is no GPU number {options.device_id}, they are counted from 0; the process sees {cuda.count()}"
        )
    # From the wheels of CUDA's libraries, where there are any. It prints what it does not find, which may be elsewhere.
    with redirect_stdout(sys.stderr):
        ort.preload_dlls(msvc=False)
    return True


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RuntimeUnavailableError(
            "onnxruntime is not installed: pip install 'sonant[serve]', or 'sonant[gpu]' on a GPU host"
        ) from None
    return onnxruntime
