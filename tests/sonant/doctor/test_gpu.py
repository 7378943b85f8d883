from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines import host
from engines.runtimes import cuda
from sonant.doctor import gpu
from sonant.doctor.finding import Finding

GIB = 2**30


class Library:
    """libcuda and libnvidia-ml of a host with `count` devices, of which the process sees `shown`."""

    def __init__(self, code: int = 0, shown: int = 1, count: int = 1, *, broken: bool = False) -> None:
        self.code, self.shown, self.count, self.broken = code, shown, count, broken

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if name == "cuInit":
                return self.code
            if name == "cuDeviceGetName" and self.broken:
                return 101
            if name == "cuGetErrorString":
                arguments[1]._obj.value = b"something new"
            if name == "cuDriverGetVersion":
                arguments[0]._obj.value = 13_010
            if name == "cuDeviceGetCount":
                arguments[0]._obj.value = self.shown
            if name == "cuDeviceGetName":
                arguments[0].value = b"Some GPU"
            if name == "cuDeviceTotalMem_v2":
                arguments[0]._obj.value = 80 * GIB
            if name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 9, 76: 0}[arguments[1]]
            if name == "nvmlSystemGetDriverVersion":
                arguments[0].value = b"580.65"
            if name == "nvmlDeviceGetCount_v2":
                arguments[0]._obj.value = self.count
            return 0

        return call


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without a device; the folder of its /dev."""
    monkeypatch.setattr(host, "SYSTEM", tmp_path / "sys")
    monkeypatch.setattr(gpu, "DEVICES", tmp_path / "dev")
    monkeypatch.setattr(gpu, "load", lambda name: None)
    monkeypatch.setattr(cuda, "free_memory", lambda number: 70 * GIB)
    (tmp_path / "dev").mkdir()
    return tmp_path / "dev"


def put(monkeypatch: pytest.MonkeyPatch, library: Library) -> list[Finding]:
    """What is found with this driver."""
    monkeypatch.setattr(gpu, "load", lambda name: library)
    return list(gpu.check())


def test_no_device() -> None:
    assert list(gpu.check()) == [Finding("driver", "not here", "no device of NVIDIA's")]


def test_a_device_without_a_driver(tmp_path: Path) -> None:
    for place, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x10de", "0x040300"), ("c", "0x8086", "0x030000")):
        folder = tmp_path / "sys/bus/pci/devices" / place
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    (found,) = gpu.check()
    assert found.status == "warning"
    assert found.found.startswith("1 of NVIDIA's devices")  # its sound is none, nor is that of another maker
    assert "--gpus all" in found.mend


def test_a_driver_with_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, first, second = put(monkeypatch, Library(shown=2, count=2))
    assert driver == Finding("driver", "ok", "580.65, for CUDA up to 13.1")
    said = "Some GPU, compute capability 9.0, 80.0 GiB, 70.0 GiB free"
    assert [first, second] == [Finding(f"device {number}", "ok", said) for number in (0, 1)]


def test_a_device_that_others_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "free_memory", lambda number: GIB)
    _, device = put(monkeypatch, Library())
    assert (device.status, "nvidia-smi" in device.mend) == ("warning", True)
    monkeypatch.setattr(cuda, "free_memory", lambda number: None)
    assert put(monkeypatch, Library())[1].status == "ok"


def test_a_device_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    _, device = put(monkeypatch, Library(broken=True))
    assert (device.status, device.found) == ("problem", "the driver answers 101")


def test_devices_that_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, hidden = put(monkeypatch, Library(shown=1, count=8))
    assert (hidden.status, hidden.found) == ("not here", "7, hidden from this process")


@pytest.mark.parametrize(
    ("code", "said", "mend"),
    [
        (803, "two versions", "reboot"),
        (999, "unknown error", "nvidia_uvm"),
        (100, "no device", "CUDA_VISIBLE_DEVICES"),
        (12_345, "something new", "nvidia-smi"),
    ],
)
def test_a_driver_that_does_not_work(
    code: int, said: str, mend: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "nvidia0").touch()
    (found,) = put(monkeypatch, Library(code))
    assert found.status == "problem"
    assert f"answers {code}" in found.found
    assert said in found.found
    assert mend in found.mend


def test_a_library_without_a_device_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert put(monkeypatch, Library(100))[0].status == "not here"


def test_files_of_devices(bare: Path) -> None:
    for name in ("nvidiactl", "nvidia-uvm", "nvidia1", "nvidia0"):
        (bare / name).touch()
    assert [path.name for path in gpu.nodes()] == ["nvidia0", "nvidia1"]


def test_a_library_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert gpu.load("libno-such-library.so.1") is None
