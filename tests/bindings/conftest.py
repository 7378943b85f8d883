from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from engines.manifest import MANIFEST_NAME
from tests.bindings.simulation import Gpu, TensorRt
from tests.bindings.strict import Strict
from tests.bindings.wheels import VERSIONS, Bindings, fetch

VERSION = "SONANT_TENSORRT_VERSION"  # of the environment: the bindings that these tests run with
ROOT = Path(__file__).parents[2]
OURS = ("device", "log", "session", "builder", "progress")  # modules that import what GPU hosts only have


@dataclass(frozen=True)
class Version:
    """One version of the bindings, imported."""

    bindings: Bindings
    module: ModuleType
    strict: Strict


@pytest.fixture(scope="session")
def version() -> Version:
    """The version that is asked for: the libraries of two would share what they should not, in one process."""
    bindings = fetch(os.environ.get(VERSION, VERSIONS[0]))
    module = bindings.load()
    return Version(bindings, module, Strict(module, bindings.stubs))


@dataclass(frozen=True)
class Simulated:
    """A GPU host: what stands for its GPU and for its TensorRT."""

    gpu: Gpu
    tensorrt: TensorRt


@pytest.fixture
def host(version: Version, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """A simulated GPU host; our modules are imported anew, by this version's classes."""
    gpu = Gpu()
    tensorrt = TensorRt(version.module, version.strict, gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt.module())
    forget()
    importlib.import_module("engines.runtimes.tensorrt.device").__dict__["cuda"] = gpu.module()
    yield Simulated(gpu, tensorrt)
    forget()
    assert version.strict.unexpected() == []


def forget() -> None:
    """Forget our modules that were imported with another TensorRT."""
    for package in ("engines.runtimes.tensorrt", "export.tensorrt"):
        parent = importlib.import_module(package)
        for name in OURS:
            sys.modules.pop(f"{package}.{name}", None)
            vars(parent).pop(name, None)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine with a graph that says that it is fp16: the fp32 graph, as far as numbers go."""
    folder = Path(shutil.copytree(ROOT / "demo" / "engines" / "hubert-ctc-english", tmp_path / "engine"))
    shutil.copy(folder / "fp32.onnx", folder / "fp16.onnx")
    path = folder / MANIFEST_NAME
    data = json.loads(path.read_text())
    data["graphs"] = [graph for graph in data["graphs"] if graph["name"] == "fp32"]
    [full] = data["graphs"]
    files = {("fp16.onnx" if file == "fp32.onnx" else file): digest for file, digest in full["sha256"].items()}
    data["graphs"].append({**full, "name": "fp16", "precision": "fp16", "file": "fp16.onnx", "sha256": files})
    path.write_text(json.dumps(data))
    return folder
