from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from engines.runtimes import cuda, find
from engines.runtimes.cuda import CudaDevice

OUT_OF_MEMORY = 2


class Driver:
    """libcuda with one device; what is in `failing` fails."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self.failing:
                return OUT_OF_MEMORY
            if name == "cuDeviceGetName":
                arguments[0].value = b"Some GPU"
            if name == "cuDeviceTotalMem_v2":
                arguments[0]._obj.value = 8 * 2**30
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value, arguments[1]._obj.value = 3 * 2**30, 8 * 2**30
            return 0

        return call


def put(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> Driver:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    return driver


def test_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = put(monkeypatch, Driver())
    assert cuda.device() == CudaDevice("Some GPU", 8 * 2**30)
    assert cuda.free_memory() == 3 * 2**30
    assert driver.calls[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2"])
def test_a_device_that_cannot_be_asked_is_none(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Driver(failing))
    assert cuda.device() is None


@pytest.mark.parametrize("failing", ["cuInit", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"])
def test_memory_that_cannot_be_asked_is_unknown(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = put(monkeypatch, Driver(failing))
    assert cuda.free_memory() is None
    held = [name for name in driver.calls if name in ("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2")]
    assert len(held) == (2 if failing in ("cuCtxPushCurrent_v2", "cuMemGetInfo_v2") else len(held[:1]))


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "no such library")
    assert cuda.device() is None
    assert cuda.free_memory() is None


def test_the_runtime_says_which_device_it_would_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    put(monkeypatch, Driver())
    known = find("onnxruntime").describe("auto")
    assert known == {"onnxruntime": known["onnxruntime"], "device": "cuda", "gpu": "Some GPU", "gpu_memory": 8 * 2**30}
    assert find("onnxruntime").describe("cpu")["device"] == "cpu"
    put(monkeypatch, Driver("cuInit"))
    assert find("onnxruntime").describe("auto")["device"] == "cpu"
