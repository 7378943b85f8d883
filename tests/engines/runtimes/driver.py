"""A CUDA driver of a host with one device, whose memory is that of the host."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

OUT_OF_MEMORY, INVALID_DEVICE = 2, 101  # of CUresult


class Driver:
    """libcuda with one device; what is in `failing` fails."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.calls: list[str] = []
        self.pinned: list[Any] = []
        self.pinned_flags: list[int] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self.failing:
                return OUT_OF_MEMORY
            if name == "cuDeviceGet" and arguments[1] != 0:
                return INVALID_DEVICE
            if name == "cuDeviceGetCount":
                arguments[0]._obj.value = 1
            if name == "cuDeviceGetName":
                arguments[0].value = b"Some GPU"
            if name == "cuDeviceTotalMem_v2":
                arguments[0]._obj.value = 8 * 2**30
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value, arguments[1]._obj.value = 3 * 2**30, 8 * 2**30
            if name == "cuMemHostAlloc":
                address, size, flags = arguments
                self.pinned.append((ctypes.c_uint8 * size.value)())
                self.pinned_flags.append(flags)
                address._obj.value = ctypes.addressof(self.pinned[-1])
            if name == "cuMemcpyDtoH_v2":
                target, source, size = arguments
                ctypes.memmove(target.value, source.value, size.value)
            return 0

        return call


def put(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> Driver:
    """Have the driver's library be `driver`."""
    monkeypatch.setattr("engines.runtimes.cuda.ctypes.CDLL", lambda name: driver)
    return driver
