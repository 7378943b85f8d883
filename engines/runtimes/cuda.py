"""What the CUDA driver says of the first device that the process sees; nothing where there is none.

The driver's own library, since ONNX Runtime has no such question and nvidia-smi counts devices that are hidden from the
process. Functions: CUDA Driver API, "Initialization", "Device Management", "Memory Management".
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

LIBRARY = "libcuda.so.1"
NAME_BYTES = 256


@dataclass(frozen=True)
class CudaDevice:
    """A device: its name and its memory in bytes."""

    name: str
    memory: int


def device() -> CudaDevice | None:
    """Return the device; None where there is none."""
    found = _first()
    if found is None:
        return None
    driver, number = found
    name, memory = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_size_t()
    if driver.cuDeviceGetName(name, NAME_BYTES, number) or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), number):
        return None
    return CudaDevice(name.value.decode(errors="replace"), memory.value)


def free_memory() -> int | None:
    """Return the bytes that are free on the device; None where there is none.

    Ask when the process uses the device already: else this begins to.
    """
    found = _first()
    if found is None:
        return None
    driver, number = found
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), number):
        return None
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return None
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        return None if failed else free.value
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(number)


def _first() -> tuple[Any, ctypes.c_int] | None:
    """Return the driver, whose functions return 0 where all went well, and its first device."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(number), 0):
        return None
    return driver, number
