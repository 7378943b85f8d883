"""NVIDIA's Python bindings for TensorRT, importable and with stubs on a machine that has neither TensorRT nor a GPU."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from engines.digest import sha256
from tests.bindings import placeholders
from tests.conftest import once

VERSIONS = ("10.16.1.11", "11.4.0.106")  # what is installed with sonant[tensorrt], and the newest
# What the bindings link to: the factories of NvInferRuntime.h, NvOnnxParser.h and NvInferPlugin.h.
FUNCTIONS = {
    "libnvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvinfer_plugin": ("initLibNvInferPlugins",),
    "libnvonnxparser": (
        "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "getNvOnnxParserVersion",
    ),
}
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonant" / "bindings"
SECONDS = 300  # for the making of the stubs; some 5 on a quiet machine


@dataclass(frozen=True)
class Bindings:
    """One version."""

    version: str
    folder: Path

    @property
    def site(self) -> Path:
        """The folder to import from."""
        return self.folder / "site"

    @property
    def stubs(self) -> Path:
        """The folder of the stubs: `tensorrt` and `tensorrt_bindings`."""
        return self.folder / "stubs"

    @property
    def libraries(self) -> list[Path]:
        """The placeholders."""
        return sorted((self.folder / "lib").iterdir())

    def load(self) -> ModuleType:
        """Import the bindings, beside those of other versions, and under no name."""
        for library in self.libraries:
            placeholders.load(library)
        before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("tensorrt")}
        sys.path.insert(0, str(self.site))
        try:
            return importlib.import_module("tensorrt_bindings")
        finally:
            sys.path.remove(str(self.site))
            for name in [name for name in sys.modules if name.startswith("tensorrt")]:
                del sys.modules[name]
            sys.modules.update(before)


def fetch(version: str) -> Bindings:
    """Return the bindings of `version`, downloaded when they are first asked for; skips the test where that fails."""
    if sys.platform != "linux":
        pytest.skip("NVIDIA's bindings are for Linux")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    # What is made of the wheel is made anew where this module makes another thing of it.
    folder = CACHE / f"tensorrt-{version}-python-{python}-{sha256(Path(__file__))[:8]}"
    try:
        return Bindings(version, once(folder, lambda partial: _make(partial, version)))
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        detail = getattr(error, "stderr", b"") or str(error).encode()
        said = (detail.decode(errors="replace").strip().splitlines() or ["for no reason that it gives"])[-1]
        pytest.skip(f"the bindings of TensorRT {version} cannot be had: {said}")


def _make(folder: Path, version: str) -> None:
    site, lib, stubs = folder / "site", folder / "lib", folder / "stubs"
    for each in (site, lib):
        each.mkdir(parents=True, exist_ok=True)
    package = f"tensorrt-cu13-bindings=={version}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-input"]
    options = ["--only-binary=:all:", "--timeout=20", "--retries=1", "--target", str(site)]
    subprocess.run([*pip, *options, package], check=True, capture_output=True, timeout=SECONDS)
    for library, functions in FUNCTIONS.items():
        placeholders.write(lib / f"{library}.so.{version.partition('.')[0]}", functions)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(lib), "PYTHONPATH": str(site)}
    stubgen = [sys.executable, "-m", "pybind11_stubgen", "tensorrt_bindings", "--output-dir", str(stubs)]
    subprocess.run(stubgen, check=True, capture_output=True, timeout=SECONDS, env=environment)
    for path in stubs.rglob("*.pyi"):
        path.write_text(mended(path.read_text()))
    (stubs / "tensorrt").mkdir()
    (stubs / "tensorrt" / "__init__.pyi").write_text("from tensorrt_bindings import *\n__version__: str\n")


def mended(stub: str) -> str:
    """Return a stub as type checkers read it.

    A signature that is no Python (an argument called `in`) takes anything. The data type `bool` goes, so that `bool` is
    what it is everywhere else.
    """
    lines = [line for line in stub.split("\n") if not re.match(r"(from \S+ import )?bool\b", line)]
    while True:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            index = (error.lineno or 0) - 1
            anything = re.sub(r"\(.*\) ->.*:$", "(self, *args: object, **kwargs: object) -> object:", lines[index])
            if anything == lines[index]:
                raise
            lines[index] = anything
        else:
            return "\n".join(lines)
