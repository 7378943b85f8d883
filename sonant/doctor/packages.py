"""Python and its packages: versions against what ours needs, and whether each can be imported."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterable, Iterator

from sonant.doctor import gpu
from sonant.doctor.finding import Finding, absent, ok, problem, warning
from sonant.doctor.request import Job, Request
from sonant.doctor.requirements import PACKAGE, installed, of_extra, unmet

# Distributions that write the same folder `onnxruntime`: what is left of one after another came is of neither.
ONNX_RUNTIMES = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm"),
    *("onnxruntime-training", "ort-nightly", "ort-nightly-gpu"),
)
# TensorRT's by the CUDA that they are for; the name without one brings the newest.
TENSORRTS = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")
# What is written in another language, and fails in ways of its own: by the name that is imported, the distributions.
NATIVE = {
    "numpy": ("numpy",),
    "onnxruntime": ONNX_RUNTIMES,
    "openvino": ("openvino",),
    "tensorrt": TENSORRTS,
    "cuda.bindings": ("cuda-bindings", "cuda-python"),
    "soundfile": ("soundfile",),
    "soxr": ("soxr",),
    "tokenizers": ("tokenizers",),
}
# OpenVINO and TensorRT load hundreds of megabytes from a disk that may be slow.
IMPORT_SECONDS = 90.0


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks: of versions, and an import of each package that is there."""
    yield Job("versions")
    for module, names in NATIVE.items():
        there = [name for name in names if installed(name)]
        if there:
            mend = f"pip install --force-reinstall {there[0]}"
            yield Job(f"import {module}", {"module": module, "distribution": there[0]}, IMPORT_SECONDS, mend)


def check(module: str | None = None, distribution: str = "") -> Iterator[Finding]:
    """Import `module`, which `distribution` brings; without one look at the versions of all."""
    if module is not None:
        yield _import(module, distribution)
        return
    yield ok("python", f"{platform.python_version()}, {PACKAGE} {installed(PACKAGE)}")
    yield _extra("core", "", [PACKAGE], is_vital=True)
    yield _extra("server", "http", ["fastapi", "uvicorn"], is_vital=True)
    yield _onnxruntime([name for name in ONNX_RUNTIMES if installed(name)], has_gpu=bool(gpu.nodes()))
    yield _extra("openvino", "openvino", ["openvino"])
    yield _extra("tensorrt", "tensorrt", TENSORRTS)
    yield _extra("export", "export", ["transformers"])


def _extra(name: str, extra: str, signs: Iterable[str], *, is_vital: bool = False) -> Finding:
    """Look at what an extra needs, where one of `signs` is installed; to have half of what `is_vital` is a problem."""
    wanted = f"{PACKAGE}[{extra}]" if extra else PACKAGE
    there = [one for one in signs if installed(one)]
    if not there:
        return absent(name, f"not installed; it comes with {wanted}")
    missing = list(unmet(extra))
    if not missing:
        return ok(name, ", ".join(f"{one.name} {installed(one.name)}" for one in of_extra(extra)))
    parts = ", ".join(f"{one} {installed(one)}" for one in there)
    found, mend = f"{parts} is there, but {'; '.join(missing)}", f"pip install --upgrade '{wanted}'"
    return problem(name, found, mend) if is_vital else warning(name, found, mend)


def _onnxruntime(there: list[str], *, has_gpu: bool) -> Finding:
    """Look at ONNX Runtime, which every engine can run on: there must be one, and one only."""
    extra = "gpu" if has_gpu else "serve"
    if not there:
        return problem("onnxruntime", "no runtime is installed: nothing can run", f"pip install 'sonant[{extra}]'")
    parts = " and ".join(f"{name} {installed(name)}" for name in there)
    if len(there) > 1:
        return problem(
            "onnxruntime",
            f"{parts} overwrite each other, so that what is imported is neither",
            f"pip uninstall --yes {' '.join(there)}, then pip install 'sonant[{extra}]'",
        )
    wanted = [one for extra in ("serve", "gpu") for one in of_extra(extra) if one.name == there[0]]
    for requirement in wanted:
        if not requirement.allows(str(installed(there[0]))):
            return problem("onnxruntime", f"{parts}, wanted is {requirement.text}", f"pip install '{requirement.text}'")
    if not wanted:
        return warning("onnxruntime", f"{parts} is not what was tried", f"pip install 'sonant[{extra}]' in its place")
    if has_gpu and there == ["onnxruntime"]:
        return warning(
            "onnxruntime",
            f"{parts} runs on the processor only, and there is a GPU",
            "pip uninstall --yes onnxruntime, then pip install 'sonant[gpu]'",
        )
    return ok("onnxruntime", parts)


def _import(module: str, distribution: str) -> Finding:
    name, expected = f"import {module}", installed(distribution)
    # OpenVINO would report to its makers that it was imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # what a package of this kind raises, it chooses itself
        return problem(name, f"{type(error).__name__}: {error}", f"pip install --force-reinstall {distribution}")
    found = getattr(imported, "__version__", None)
    if isinstance(found, str) and not _same(found, str(expected)):
        return problem(
            name,
            f"what is imported is {found}, installed is {distribution} {expected}",
            f"see that no other copy comes first ({getattr(imported, '__file__', '')}), "
            f"or pip install --force-reinstall {distribution}",
        )
    return ok(name, str(expected))


def _same(imported: str, installed_version: str) -> bool:
    """Whether two versions are the same in the numbers that both state, such as 2025.3.0-19807 and 2025.3.0."""
    pairs = zip(*(text.replace("-", ".").split(".") for text in (imported, installed_version)), strict=False)
    return all(left == right for left, right in pairs)
