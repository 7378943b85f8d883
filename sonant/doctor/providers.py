"""Each form of a tiny engine, run on each device: what comes out is compared with what transformers computed.

The engine comes with the package: `python -m demo.tiny` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from engines import runtimes
from engines.engine import Engine
from engines.errors import EngineError, RuntimeUnavailableError
from engines.manifest import BASE, DeviceName, Graph, Manifest
from engines.runtimes import RuntimeOptions
from engines.verify import Check, proved
from sonant.doctor import gpu, libraries
from sonant.doctor.finding import Finding, absent, ok, problem
from sonant.doctor.request import Job, Request

ENGINE = Path(__file__).parent / "tiny"
BUILT_FOR = "onnxruntime's"  # providers, whether they work or not
# The engine itself runs in milliseconds; a runtime loads in seconds, and CUDA may compile kernels for a new device.
SECONDS = {"cpu": 60.0, "cuda": 180.0}
INSTALLS = {"onnxruntime": "sonant[serve]", "openvino": "sonant[openvino]", "tensorrt": "sonant[tensorrt]"}


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks: what ONNX Runtime was built for, then one for each form and device."""
    yield Job(BUILT_FOR)
    runs = {(device, graph.form): graph for graph in Manifest.read(ENGINE).graphs for device in graph.devices}
    for (device, form), graph in sorted(runs.items()):
        mend = f"pip install --force-reinstall '{_install(graph.runtime, device)}'"
        yield Job(f"{form} on {device}", {"form": form, "device": device}, SECONDS[device], mend)


def check(form: str | None = None, device: DeviceName = "cpu") -> Iterator[Finding]:
    """Run the tiny engine in `form` on `device`; without one say which providers there are."""
    if form is None:
        yield _built_for()
        return
    name = f"{form} on {device}"
    graphs = [graph for graph in Manifest.read(ENGINE).graphs if graph.form == form]
    runtime, precision = graphs[0].runtime, graphs[0].precision
    options = RuntimeOptions(device, threads=1, runtime=runtime, precision=precision, max_error=math.inf)
    reason, mend = _refusal(graphs[0], options), f"pip install '{_install(runtime, device)}'"
    if reason is not None:
        needed = form == BASE and device == "cpu"
        yield problem(name, reason, mend) if needed else absent(name, reason)
        return
    try:
        yield run(name, ENGINE, options)
    except EngineError as error:
        yield problem(name, str(error), mend)


def run(name: str, folder: Path, options: RuntimeOptions) -> Finding:
    """Replay the golden clips of the engine in `folder`, in the form that `options` name. Raises EngineError."""
    engine = Engine(folder, options=options)
    opened = [engine.open_graph(graph) for graph in engine.form.graphs]
    checks = [check for _, checks in opened for check in checks]
    where = {session.device for session, _ in opened}
    if options.device != "auto" and where != {options.device}:
        return problem(name, f"it ran on {', '.join(sorted(where))} instead", "see `nvidia-smi`, and `libraries` above")
    seconds = engine.seconds_per_second or 0.0
    if all(proved(checks) for _, checks in opened):
        return ok(name, f"{worst(checks)}, {seconds * 1e3:.1f} ms for a second of audio")
    mend = "do not use this form on this host; report it with the output of `sonant doctor --json`"
    return problem(name, f"it computes something else: {worst(checks)}", mend)


def _built_for() -> Finding:
    try:
        import onnxruntime
    except ImportError as error:  # of which the packages say more
        return absent(BUILT_FOR, str(error))
    return ok(BUILT_FOR, ", ".join(onnxruntime.get_available_providers()))


def worst(checks: list[Check]) -> str:
    """Return the largest error of all, beside its bound."""
    if not checks:
        return "none of its outputs is among the golden clips"
    worst = max(checks, key=lambda check: math.inf if math.isnan(check.error) else check.error / check.bound)
    return f"error {worst.error:.1e} (bound {worst.bound:.1e})"


def _refusal(graph: Graph, options: RuntimeOptions) -> str | None:
    """Return why this host cannot run a form; None if nothing speaks against it."""
    if options.device == "cuda" and not gpu.nodes():
        return "there is no GPU"
    if (graph.runtime, options.device) == ("onnxruntime", "cuda") and not libraries.has_cuda():
        return "this ONNX Runtime runs on the processor only"
    try:
        return runtimes.find(graph.runtime).refusal(graph, options)
    except RuntimeUnavailableError as error:
        return str(error)


def _install(runtime: str, device: str) -> str:
    return "sonant[gpu]" if (runtime, device) == ("onnxruntime", "cuda") else INSTALLS[runtime]
