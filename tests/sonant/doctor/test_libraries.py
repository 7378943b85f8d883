from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from engines.runtimes import cuda
from sonant.doctor import gpu, libraries
from sonant.doctor.finding import Finding

OF_CUDA = ["libcublas.so.13", "libcudart.so.13", "libcuda.so.1", "libc.so.6"]
OF_TENSORRT = ["libnvinfer.so.10", "libnvonnxparser.so.10", "libcudnn.so.9", "libm.so.6"]
FOUND = {name for name in (*OF_CUDA, *OF_TENSORRT) if not name.startswith("libnv")}


class Driver:
    """libcuda, of a version."""

    def __init__(self, version: int) -> None:
        self.version = version

    def cuDriverGetVersion(self, place: Any) -> int:  # noqa: N802
        place._obj.value = self.version
        return 0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The libraries that can be loaded on a host with a GPU and ONNX Runtime for it."""
    loadable = set(FOUND)
    for name in (libraries.CUDA_PROVIDER, libraries.TENSORRT_PROVIDER):
        (tmp_path / name).touch()
    monkeypatch.setattr(libraries, "_folder", lambda: tmp_path)
    monkeypatch.setattr(libraries, "_preload", lambda: None)
    monkeypatch.setattr(libraries, "needed", lambda path: OF_CUDA if "cuda" in path.name else OF_TENSORRT)
    monkeypatch.setattr(gpu, "nodes", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(gpu, "load", lambda name: ctypes if name in loadable else None)
    monkeypatch.setattr(libraries, "_version", lambda: Finding("CUDA", "ok", ""))
    return loadable


def test_all_are_found(host: set[str]) -> None:
    host |= set(OF_TENSORRT)
    _, of_cuda, of_tensorrt = libraries.check()
    assert of_cuda == Finding(
        "CUDA provider", "ok", "found: libcublas.so.13, libcudart.so.13, libcuda.so.1, libcudnn.so.9"
    )
    assert of_tensorrt == Finding("TensorRT provider", "ok", "found: libnvinfer.so.10, libnvonnxparser.so.10")


def test_some_are_missing(host: set[str]) -> None:
    host -= {"libcublas.so.13", "libcudnn.so.9"}
    _, of_cuda, of_tensorrt = libraries.check()
    assert (of_cuda.status, of_cuda.found) == ("problem", "not found: libcublas.so.13, libcudnn.so.9")
    assert "onnxruntime-gpu[cuda,cudnn]" in of_cuda.mend
    assert (of_tensorrt.status, "sonant[tensorrt]" in of_tensorrt.mend) == ("not here", True)
    host.add("libnvinfer.so.10")
    *_, half = libraries.check()
    assert (half.status, half.found) == ("problem", "not found: libnvonnxparser.so.10")


@pytest.mark.parametrize(("version", "status"), [(13_000, "ok"), (13_010, "ok"), (12_040, "problem")])
def test_the_driver_must_know_the_cuda_of_the_build(version: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.capi import build_and_package_info

    monkeypatch.setattr(build_and_package_info, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(gpu, "load", lambda name: Driver(version) if name == cuda.LIBRARY else None)
    found = libraries._version()
    assert found.status == status
    assert "CUDA 13.0" in found.found
    assert ("580" in found.mend) == (status == "problem")


def test_without_a_gpu_or_a_build_for_it(host: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "nodes", list)
    assert [(found.name, found.status) for found in libraries.check()] == [("CUDA provider", "not here")]
    monkeypatch.undo()
    if not libraries.has_cuda():  # the build of the tests
        assert [found.found for found in libraries.check()] == ["this ONNX Runtime has none"]


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not libraries.has_cuda()
    assert [found.status for found in libraries.check()] == ["not here"]
