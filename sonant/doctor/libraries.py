"""The libraries that ONNX Runtime's GPU providers need, and the CUDA that they are built for."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engines.runtimes import cuda
from sonant.doctor import gpu
from sonant.doctor.elf import needed
from sonant.doctor.finding import Finding, absent, ok, problem
from sonant.doctor.packages import IMPORT_SECONDS
from sonant.doctor.request import Job, Request

CUDA_PROVIDER, TENSORRT_PROVIDER = "libonnxruntime_providers_cuda.so", "libonnxruntime_providers_tensorrt.so"
# Of NVIDIA's libraries by what their names begin with: the driver's, CUDA's, and TensorRT's.
OF_CUDA = ("libcuda", "libcublas", "libcudnn", "libcufft", "libcurand", "libnvrtc")
OF_TENSORRT = ("libnvinfer", "libnvonnxparser")
# The oldest driver that runs programs of a CUDA: CUDA Compatibility, "Minor Version Compatibility".
DRIVERS = {11: 450, 12: 525, 13: 580}


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks."""
    yield Job("onnxruntime's", seconds=IMPORT_SECONDS, mend="pip install --force-reinstall onnxruntime-gpu")


def check() -> Iterator[Finding]:
    """Look for the libraries of either provider, where there is a GPU."""
    folder = _folder()
    if folder is None or not has_cuda():
        yield absent("CUDA provider", "this ONNX Runtime has none")
        return
    if not gpu.nodes():
        yield absent("CUDA provider", "there is no GPU for it")
        return
    yield _version()
    _preload()
    names = _nvidia(folder / CUDA_PROVIDER) + _nvidia(folder / TENSORRT_PROVIDER)
    of_cuda = [name for name in dict.fromkeys(names) if name.startswith(OF_CUDA)]
    yield _looked_for("CUDA provider", of_cuda, "pip install 'onnxruntime-gpu[cuda,cudnn]', which brings them")
    of_tensorrt = [name for name in dict.fromkeys(names) if name.startswith(OF_TENSORRT)]
    if not any(gpu.load(name) for name in of_tensorrt):
        yield absent(
            "TensorRT provider", f"{' and '.join(of_tensorrt) or 'it'} not found", "pip install 'sonant[tensorrt]'"
        )
    else:
        yield _looked_for("TensorRT provider", of_tensorrt, "pip install --force-reinstall 'sonant[tensorrt]'")


def has_cuda() -> bool:
    """Whether the ONNX Runtime that would be imported was built for GPUs; it is not imported."""
    folder = _folder()
    return folder is not None and (folder / CUDA_PROVIDER).is_file()


def _folder() -> Path | None:
    """Return where ONNX Runtime has its libraries, without importing it."""
    found = importlib.util.find_spec("onnxruntime")
    return Path(found.origin).parent / "capi" if found and found.origin else None


def _nvidia(library: Path) -> list[str]:
    """Return the libraries of NVIDIA's that `library` needs.

    The CUDA provider opens cuDNN when it first needs it: the TensorRT provider of the same build states its name.
    """
    return [name for name in needed(library) if name.startswith(OF_CUDA + OF_TENSORRT)] if library.is_file() else []


def _version() -> Finding:
    """Compare the CUDA of the build with that of the driver."""
    from onnxruntime.capi import build_and_package_info

    built, version = str(getattr(build_and_package_info, "cuda_version", "")), ctypes.c_int()
    driver = gpu.load(cuda.LIBRARY)
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) or not built:
        return absent("CUDA", "its versions are unknown")
    major = int(built.partition(".")[0])
    found = f"ONNX Runtime is built for CUDA {built}, the driver runs up to {gpu.as_text(version.value)}"
    if version.value // 1000 >= major:
        return ok("CUDA", found)
    wanted = f"NVIDIA's driver {DRIVERS[major]} or newer" if major in DRIVERS else "a newer driver of NVIDIA's"
    return problem("CUDA", found, f"install {wanted}, or an onnxruntime-gpu for an older CUDA")


def _preload() -> None:
    """Load the libraries that pip has installed, which the system does not look for."""
    import onnxruntime

    onnxruntime.preload_dlls(msvc=False)
    with suppress(Exception):  # whatever it raises, which is said of the packages
        importlib.import_module("tensorrt")  # it loads its libraries


def _looked_for(name: str, libraries: list[str], mend: str) -> Finding:
    missing = [library for library in libraries if gpu.load(library) is None]
    if missing:
        return problem(name, f"not found: {', '.join(missing)}", mend)
    return ok(name, f"found: {', '.join(libraries)}")
