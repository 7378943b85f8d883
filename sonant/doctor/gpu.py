"""The GPUs of NVIDIA: on the bus, in the driver, and as CUDA shows them to a process.

Sources: CUDA Driver API ("Initialization", "Version Management", "Device Management"), NVML API ("System Queries",
"Device Queries"), Linux's sysfs-bus-pci.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import host
from engines.runtimes import cuda
from sonant.doctor.finding import Finding, absent, ok, problem, warning
from sonant.doctor.request import Job, Request

MANAGEMENT_LIBRARY = "libnvidia-ml.so.1"
DEVICES = Path("/dev")
# In sysfs: NVIDIA's number, and the beginning of the class of displays, 3D controllers among them.
VENDOR, DISPLAYS = "0x10de", "0x03"
TEXT_BYTES = 256
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
# What cuInit answers where the driver does not work, and what mends it; of other answers the driver tells the name.
CODES = {
    100: ("it shows no device to this process", "unset CUDA_VISIBLE_DEVICES; start a container with --gpus all"),
    34: ("it is the stub that is there to link with", "take the folder `stubs` out of LD_LIBRARY_PATH"),
    802: ("the system is not ready", "start nvidia-fabricmanager, and see `nvidia-smi -q | grep -A2 Fabric`"),
    803: ("the library and the kernel's module are of two versions", "reboot, or load the new module"),
    804: ("the compatibility library is not for this device", "take cuda-compat out of LD_LIBRARY_PATH, or reboot"),
    999: (
        "unknown error",
        "load the module nvidia_uvm (`nvidia-modprobe -u -c 0`), or reboot; see `dmesg | grep NVRM`",
    ),
}
MEND = "see `nvidia-smi` and `dmesg | grep NVRM`; reboot if they hang or say no more"
# The driver takes seconds where nobody keeps the device open (persistence mode), and more with eight of them.
GPU_SECONDS = 60.0
# Of a device that others use too: less is not enough for a large engine and a batch.
LITTLE_MEMORY = 2 * 2**30


@dataclass(frozen=True)
class Gpu:
    """A device as CUDA shows it; memory in bytes."""

    name: str
    memory: int
    compute_capability: str


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks."""
    yield Job("driver", seconds=GPU_SECONDS, mend=MEND)


def check() -> Iterator[Finding]:
    """Look at the driver and at each device."""
    driver = load(cuda.LIBRARY)
    if driver is None:
        yield _without_driver()
        return
    code = driver.cuInit(0)
    if code:
        yield _refused(driver, code)
        return
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    management = _management()
    name = _text(management, "nvmlSystemGetDriverVersion") if management else ""
    yield ok("driver", f"{name or 'of unknown version'}, for CUDA up to {as_text(version.value)}")
    shown = devices(driver)
    for number, device in enumerate(shown):
        yield _describe(number, device)
    yield from _managed(management, len(shown))


def load(name: str) -> Any:
    """Return a library; None where there is none that can be loaded."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def nodes() -> list[Path]:
    """Return the files by which processes reach a device; none where there is no driver, or a container has none."""
    return sorted(DEVICES.glob("nvidia[0-9]*"))


def devices(driver: Any) -> list[Gpu | int]:
    """Return the devices that this process sees, of a driver that was initialised; of one that fails the answer."""
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return [_device(driver, index) for index in range(count.value)]


def _device(driver: Any, index: int) -> Gpu | int:
    number, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(TEXT_BYTES), ctypes.c_size_t()
    codes: tuple[int, ...] = (
        driver.cuDeviceGet(ctypes.byref(number), index),
        driver.cuDeviceGetName(name, TEXT_BYTES, number),
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), number),
        driver.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, number),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, number),
    )
    if any(codes):
        return max(codes)
    return Gpu(name.value.decode(errors="replace"), memory.value, f"{major.value}.{minor.value}")


def _without_driver() -> Finding:
    on_bus = _on_bus()
    if not on_bus:
        return absent("driver", "no device of NVIDIA's")
    return warning(
        "driver",
        f"{on_bus} of NVIDIA's devices on the bus, but {cuda.LIBRARY} cannot be loaded: they are not used",
        "install NVIDIA's driver; start a container with --gpus all (nvidia-container-toolkit)",
    )


def _on_bus() -> int:
    folders = (host.SYSTEM / "bus/pci/devices").glob("*")
    return sum(_line(one / "vendor") == VENDOR and _line(one / "class").startswith(DISPLAYS) for one in folders)


def _line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _refused(driver: Any, code: int) -> Finding:
    said = ctypes.c_char_p()
    driver.cuGetErrorString(code, ctypes.byref(said))
    meaning, mend = CODES.get(code, ((said.value or b"").decode(), MEND))
    found = f"the driver answers {code}: {meaning}"
    if code == 100 and not nodes():  # a library without a device, as in an image that is run on another host
        return absent("driver", found, mend)
    return problem("driver", found, mend)


def _describe(number: int, device: Gpu | int) -> Finding:
    name = f"device {number}"
    if isinstance(device, int):
        return problem(name, f"the driver answers {device}", MEND)
    free = cuda.free_memory(number)
    said = f"{device.name}, compute capability {device.compute_capability}, {device.memory / 2**30:.1f} GiB"
    if free is None:
        return ok(name, said)
    said += f", {free / 2**30:.1f} GiB free"
    if free >= LITTLE_MEMORY:
        return ok(name, said)
    return warning(name, said, "see with `nvidia-smi` who uses it")


def _managed(management: Any, shown: int) -> Iterator[Finding]:
    """Say how many devices the driver has that this process does not see."""
    count = ctypes.c_uint()
    if management and not management.nvmlDeviceGetCount_v2(ctypes.byref(count)) and count.value > shown:
        yield absent("other devices", f"{count.value - shown}, hidden from this process", "see CUDA_VISIBLE_DEVICES")


def _management() -> Any:
    """Return the management library, initialised; None where it cannot be."""
    library = load(MANAGEMENT_LIBRARY)
    return None if library is None or library.nvmlInit_v2() else library


def _text(library: Any, function: str) -> str:
    text = ctypes.create_string_buffer(TEXT_BYTES)
    return "" if getattr(library, function)(text, TEXT_BYTES) else text.value.decode(errors="replace")


def as_text(version: int) -> str:
    """Return a version such as 13000 as text."""
    return f"{version // 1000}.{version % 1000 // 10}"
