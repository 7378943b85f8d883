from __future__ import annotations

import sys
import types

import pytest

from sonant.doctor import gpu, packages
from sonant.doctor.finding import Finding
from sonant.doctor.request import Request
from sonant.doctor.requirements import Requirement

EXTRAS = {
    "": [Requirement("numpy", ">=2.0")],
    "http": [Requirement("fastapi", ">=0.115")],
    "serve": [Requirement("onnxruntime", ">=1.23")],
    "gpu": [Requirement("onnxruntime-gpu", ">=1.27")],
    "openvino": [Requirement("openvino", ">=2025.3")],
    "tensorrt": [Requirement("tensorrt-cu13", ">=10.16,<10.17"), Requirement("cuda-python", ">=13")],
    "export": [Requirement("torch", ">=2.11"), Requirement("transformers", ">=5.20")],
}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed: a CPU host that serves."""
    there = {"sonant": "1", "numpy": "2.4", "fastapi": "0.165", "onnxruntime": "1.31.1"}
    for module in ("packages", "requirements"):
        monkeypatch.setattr(f"sonant.doctor.{module}.installed", there.get)
    monkeypatch.setattr(packages, "of_extra", EXTRAS.__getitem__)
    monkeypatch.setattr("sonant.doctor.requirements.of_extra", EXTRAS.__getitem__)
    monkeypatch.setattr(gpu, "nodes", list)
    return there


def looked() -> dict[str, Finding]:
    return {found.name: found for found in packages.check()}


def test_a_host_that_serves(versions: dict[str, str]) -> None:
    found = looked()
    assert {name: one.status for name, one in found.items()} == {
        "python": "ok",
        "core": "ok",
        "server": "ok",
        "onnxruntime": "ok",
        "openvino": "not here",
        "tensorrt": "not here",
        "export": "not here",
    }
    assert found["server"].found == "fastapi 0.165"


def test_nothing_is_installed(versions: dict[str, str]) -> None:
    for name in ("numpy", "fastapi", "onnxruntime"):
        del versions[name]
    found = looked()
    assert [found[name].status for name in ("core", "server", "onnxruntime")] == ["problem", "not here", "problem"]
    assert found["core"].found == "sonant 1 is there, but not installed: numpy"
    assert found["core"].mend == "pip install --upgrade 'sonant'"
    assert found["onnxruntime"].found == "no runtime is installed: nothing can run"
    assert found["onnxruntime"].mend == "pip install 'sonant[serve]'"


def test_two_of_onnxruntime(versions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    versions["onnxruntime-gpu"] = "1.31.0"
    found = looked()["onnxruntime"]
    assert found.status == "problem"
    assert "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.0 overwrite each other" in found.found
    expected = "pip uninstall --yes onnxruntime onnxruntime-gpu, then pip install 'sonant[{}]'"
    assert found.mend == expected.format("serve")
    monkeypatch.setattr(gpu, "nodes", lambda: ["/dev/nvidia0"])
    assert looked()["onnxruntime"].mend == expected.format("gpu")


def test_a_gpu_that_is_not_used(versions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "nodes", lambda: ["/dev/nvidia0"])
    found = looked()["onnxruntime"]
    assert (found.status, "sonant[gpu]" in found.mend) == ("warning", True)
    versions["onnxruntime-gpu"] = versions.pop("onnxruntime")
    assert looked()["onnxruntime"].status == "ok"


@pytest.mark.parametrize(
    ("name", "version", "status", "said"),
    [
        ("onnxruntime", "1.22.0", "problem", "wanted is onnxruntime>=1.23"),
        ("onnxruntime-gpu", "1.26.0", "problem", "wanted is onnxruntime-gpu>=1.27"),
        ("onnxruntime-openvino", "1.31.0", "warning", "not what was tried"),
    ],
)
def test_another_onnxruntime(name: str, version: str, status: str, said: str, versions: dict[str, str]) -> None:
    del versions["onnxruntime"]
    versions[name] = version
    found = looked()["onnxruntime"]
    assert found.status == status
    assert said in found.found
    assert found.mend


def test_half_of_an_extra(versions: dict[str, str]) -> None:
    versions |= {"tensorrt": "11.4.0", "torch": "2.13.0", "transformers": "4.40"}
    found = looked()
    assert found["tensorrt"].status == "warning"
    expected = "tensorrt 11.4.0 is there, but not installed: tensorrt-cu13, cuda-python"
    assert found["tensorrt"].found == expected
    assert "transformers is 4.40, wanted is transformers>=5.20" in found["export"].found
    assert found["export"].status == "warning"
    assert found["export"].mend == "pip install --upgrade 'sonant[export]'"


def test_what_is_there_is_imported(versions: dict[str, str]) -> None:
    versions |= {"onnxruntime-gpu": "1.31.1", "tensorrt-cu13": "10.16"}
    del versions["onnxruntime"]
    jobs = {job.name: job.arguments for job in packages.jobs(Request())}
    assert jobs == {
        "versions": {},
        "import numpy": {"module": "numpy", "distribution": "numpy"},
        "import onnxruntime": {"module": "onnxruntime", "distribution": "onnxruntime-gpu"},
        "import tensorrt": {"module": "tensorrt", "distribution": "tensorrt-cu13"},
    }


@pytest.mark.parametrize(
    ("imported", "status"),
    [("2026.4.1-22982-e213a14", "ok"), ("2026.4.1", "ok"), ("2026.4.0-22982", "problem"), (None, "ok")],
)
def test_what_is_imported_is_what_is_installed(
    imported: str | None, status: str, versions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions["openvino"] = "2026.4.1"
    module = types.ModuleType("openvino")
    if imported is not None:
        module.__dict__["__version__"] = imported
    monkeypatch.setitem(sys.modules, "openvino", module)
    (found,) = packages.check("openvino", "openvino")
    assert (found.status, found.name) == (status, "import openvino")


def test_an_import_that_fails(versions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    (found,) = packages.check("openvino", "openvino")
    assert found.status == "problem"
    assert found.found.startswith("ModuleNotFoundError: ")
    assert found.mend == "pip install --force-reinstall openvino"


def test_half_a_server(versions: dict[str, str]) -> None:
    versions["fastapi"] = "0.100"
    found = looked()["server"]
    assert (found.status, found.mend) == ("problem", "pip install --upgrade 'sonant[http]'")
    assert found.found == "fastapi 0.100 is there, but fastapi is 0.100, wanted is fastapi>=0.115"
