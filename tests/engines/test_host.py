from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines import host

GIB = 2**30


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for files of the kernel's, on a host of four cores with two threads each and 16 GiB."""
    monkeypatch.setattr(host, "PROC", tmp_path / "proc")
    monkeypatch.setattr(host, "SYSTEM", tmp_path / "sys")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    write(tmp_path, {topology.format(cpu): f"{cpu % 4},{cpu % 4 + 4}\n" for cpu in range(8)})
    memory = f"MemTotal:       {16 * 2**20} kB\nMemFree:  1 kB\nMemAvailable:   {12 * 2**20} kB\n"
    write(
        tmp_path, {"proc/meminfo": memory, "proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast One\n\nprocessor\t: 1\n"}
    )
    return tmp_path


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_host_without_limits(kernel: Path) -> None:
    assert host.cores() == 4
    assert host.engine_threads() == 3
    assert host.memory() == 16 * GIB
    assert host.free_memory() == 12 * GIB
    assert host.processor() == "Fast One"


def test_affinity_counts_cores_and_not_their_threads(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 4, 5}, raising=False)
    assert host.cores() == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3}, raising=False)
    assert host.cores() == 1
    assert host.engine_threads() == 1


def test_limits_of_version_2_hold_at_every_level(kernel: Path) -> None:
    write(
        kernel,
        {
            "proc/self/cgroup": "0::/slice/unit\n",
            "sys/fs/cgroup/slice/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/slice/unit/cpu.max": "max 100000\n",
            "sys/fs/cgroup/slice/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/slice/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/slice/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            "sys/fs/cgroup/slice/unit/memory.max": "max\n",
        },
    )
    assert host.cores() == 2
    assert host.memory() == 4 * GIB
    assert host.free_memory() == 2 * GIB


def test_limits_of_version_1(kernel: Path) -> None:
    write(
        kernel,
        {
            "proc/self/cgroup": "5:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/\n0::/\n",
            # A container sees the tree from its own group on.
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 2}\n",
        },
    )
    assert host.cores() == 1
    assert host.memory() == 2 * GIB
    assert host.free_memory() == 3 * GIB // 2


def test_no_limit_in_version_1(kernel: Path) -> None:
    cpu = {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}
    memory = {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": str(3 * GIB)}
    write(kernel, {"proc/self/cgroup": "4:memory:/\n1:cpu:/\n"})
    write(kernel, {f"sys/fs/cgroup/cpu/{name}": text for name, text in cpu.items()})
    write(kernel, {f"sys/fs/cgroup/memory/{name}": text for name, text in memory.items()})
    assert host.cores() == 4
    assert host.free_memory() == 12 * GIB


def test_a_kernel_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PROC", tmp_path)
    monkeypatch.setattr(host, "SYSTEM", tmp_path)
    assert host.cores() >= 1
    assert host.memory() is None
    assert host.free_memory() is None
    assert host.processor()


@pytest.mark.parametrize("key", ["flags", "Features"])
def test_the_instructions_of_the_processor(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PROC", tmp_path)
    assert host.processor_flags() == frozenset()
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{key}\t\t: fp one two\nbugs\t: three\n\nprocessor\t: 1\n")
    assert host.processor_flags() == {"fp", "one", "two"}


def test_this_host() -> None:
    assert 1 <= host.engine_threads() <= host.cores()


@pytest.mark.parametrize("name", ["malloc_trim", "no_such_function"])
def test_the_c_library_gives_memory_back_if_it_can(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    library = SimpleNamespace(**{name: asked.append})
    monkeypatch.setattr("engines.host.ctypes.CDLL", lambda _: library)
    host.trim()
    assert asked == [0] * (name == "malloc_trim")


@pytest.mark.parametrize("name", ["mallopt", "no_such_function"])
def test_the_c_library_keeps_little_if_it_can_and_nobody_says_otherwise(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    library = SimpleNamespace(**{name: lambda *arguments: asked.append(arguments)})
    monkeypatch.setattr("engines.host.ctypes.CDLL", lambda _: library)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    for variable in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(variable, raising=False)
    host.keep_little()
    assert asked == [(-3, 4 * 2**20), (-1, 16 * 2**20)] * (name == "mallopt")
