from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.runtimes import cuda, find
from engines.runtimes.cuda import CudaDevice
from tests.engines.runtimes.driver import Driver, put


def held(driver: Driver) -> list[str]:
    return [name for name in driver.calls if name.startswith("cuDevicePrimaryCtx")]


def test_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = put(monkeypatch, Driver())
    assert cuda.device() == CudaDevice("Some GPU", 8 * 2**30)
    assert cuda.free_memory() == 3 * 2**30
    assert driver.calls[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_only_what_there_is_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Driver())
    assert cuda.count() == 1
    assert cuda.device(1) is None
    assert cuda.free_memory(1) is None
    assert cuda.pin(8, 1) is None


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2"])
def test_a_device_that_cannot_be_asked_is_none(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Driver(failing))
    assert cuda.device() is None


@pytest.mark.parametrize("failing", ["cuInit", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"])
def test_memory_that_cannot_be_asked_is_unknown(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = put(monkeypatch, Driver(failing))
    assert cuda.free_memory() is None
    assert len(held(driver)) == (2 if failing in ("cuCtxPushCurrent_v2", "cuMemGetInfo_v2") else len(held(driver)[:1]))


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "no such library")
    assert cuda.device() is None
    assert cuda.free_memory() is None
    assert cuda.count() == 0
    assert cuda.pin(8) is None


def test_memory_is_pinned_for_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = put(monkeypatch, Driver())
    assert cuda.pin(4096)
    assert driver.pinned_flags == [cuda.PORTABLE]
    assert len(driver.pinned[0]) == 4096
    put(monkeypatch, Driver("cuMemHostAlloc"))
    assert cuda.pin(4096) is None


def test_arrays_are_copied_back(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = put(monkeypatch, Driver())
    sources: list[NDArray[Any]] = [np.arange(12, dtype=np.float32), np.arange(3), np.zeros((2, 0), np.float32)]
    targets = [np.empty_like(source) for source in sources]
    cuda.download([(target, source.ctypes.data) for target, source in zip(targets, sources, strict=True)])
    assert all((target == source).all() for target, source in zip(targets, sources, strict=True))
    assert driver.calls.count("cuMemcpyDtoH_v2") == 2  # the driver does not take an array of nothing
    assert len(held(driver)) == 2


@pytest.mark.parametrize(
    ("failing", "message"),
    [("cuMemcpyDtoH_v2", "CUDA failure 2: a copy"), ("cuCtxPushCurrent_v2", "device 0 cannot be used any more")],
)
def test_a_copy_that_fails_is_an_error(failing: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = put(monkeypatch, Driver(failing))
    array = np.zeros(4, np.float32)
    with pytest.raises(RuntimeError, match=message):
        cuda.download([(array, array.ctypes.data)])
    assert len(held(driver)) == 2


def test_the_runtime_says_which_device_it_would_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    put(monkeypatch, Driver())
    known = find("onnxruntime").describe("auto")
    assert known == {"onnxruntime": known["onnxruntime"], "device": "cuda", "gpu": "Some GPU", "gpu_memory": 8 * 2**30}
    assert find("onnxruntime").describe("cpu")["device"] == "cpu"
    assert find("onnxruntime").describe("auto", 1)["device"] == "cpu"  # there is one GPU only
    put(monkeypatch, Driver("cuInit"))
    assert find("onnxruntime").describe("auto")["device"] == "cpu"
