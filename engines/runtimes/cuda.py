"""What the CUDA driver says of the devices that the process sees, and does for them; nothing where there is none.

The driver's own library, since ONNX Runtime has no such questions and nvidia-smi counts devices that are hidden from
the process. Functions: CUDA Driver API, "Initialization", "Device Management", "Primary Context Management", "Memory
Management".
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIBRARY = "libcuda.so.1"
NAME_BYTES = 256
PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE: pinned for all devices


@dataclass(frozen=True)
class CudaDevice:
    """A device: its name and its memory in bytes."""

    name: str
    memory: int


def count() -> int:
    """Return how many devices the process sees."""
    driver, found = _driver(), ctypes.c_int()
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(found)) else found.value


def device(number: int = 0) -> CudaDevice | None:
    """Return device `number`; None where there is none."""
    found = _find(number)
    if found is None:
        return None
    driver, handle = found
    name, memory = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_size_t()
    if driver.cuDeviceGetName(name, NAME_BYTES, handle) or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle):
        return None
    return CudaDevice(name.value.decode(errors="replace"), memory.value)


def free_memory(number: int = 0) -> int | None:
    """Return the bytes that are free on device `number`; None where there is none.

    Ask when the process uses the device already: else this begins to.
    """
    with _current(number) as driver:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        if driver is None or driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
            return None
        return free.value


def pin(size: int, number: int = 0) -> int | None:
    """Return the address of `size` bytes of host memory that stays where it is, for ever; None where there is none.

    Every device copies from it and into it by itself, at the full speed of the bus.
    """
    with _current(number) as driver:
        address = ctypes.c_void_p()
        if driver is None or driver.cuMemHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), PORTABLE):
            return None
        return address.value


def download(copies: Sequence[tuple[NDArray[np.generic], int]], number: int = 0) -> None:
    """Fill each array from its address on device `number`; RuntimeError, by the driver's number, where that fails.

    What computes there must have ended.
    """
    with _current(number) as driver:
        if driver is None:
            raise RuntimeError(f"CUDA: device {number} cannot be used any more")
        for array, address in copies:
            target, source = ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(address)
            failure = driver.cuMemcpyDtoH_v2(target, source, ctypes.c_size_t(array.nbytes)) if array.nbytes else 0
            if failure:
                raise RuntimeError(f"CUDA failure {failure}: a copy from device {number}")


@contextmanager
def _current(number: int) -> Iterator[Any]:
    """Have the calls of this thread go to device `number`: yield the driver, None where that cannot be.

    The context is the one that ONNX Runtime uses too.
    """
    found, context = _find(number), ctypes.c_void_p()
    if found is None or found[0].cuDevicePrimaryCtxRetain(ctypes.byref(context), found[1]):
        yield None
        return
    driver, handle = found
    try:
        if driver.cuCtxPushCurrent_v2(context):
            yield None
            return
        try:
            yield driver
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(handle)


def _find(number: int) -> tuple[Any, ctypes.c_int] | None:
    """Return the driver, whose functions return 0 where all went well, and what it calls device `number`."""
    driver, handle = _driver(), ctypes.c_int()
    if driver is None or driver.cuDeviceGet(ctypes.byref(handle), number):
        return None
    return driver, handle


def _driver() -> Any:
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    return None if driver.cuInit(0) else driver
