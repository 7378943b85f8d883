"""A plan of the tiny engine, built and verified, where there are TensorRT and a GPU."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engines.errors import EngineError, RuntimeUnavailableError
from engines.manifest import Manifest
from engines.runtimes import RuntimeOptions
from engines.runtimes.tensorrt import version
from sonant.doctor import gpu, providers
from sonant.doctor.finding import Finding, absent, ok, problem
from sonant.doctor.request import Job, Request

NAME = "plan"
# A build of the tiny engine takes well under a minute, most of it the start of the builder's library.
SECONDS = 600.0
MEND = "see `libraries` and `gpu` above; then `sonant build --verbose` on an engine says more"
# One profile with few rows, as quickly as can be: it shows that there is a builder, and that what it builds is right.
BUCKET_SECONDS, ROWS, LEVEL = 0.5, 4, 0


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks."""
    yield Job(NAME, seconds=SECONDS, mend=MEND)


def check() -> Iterator[Finding]:
    """Build a plan of the tiny engine in a temporary folder, prove it, and run it as a server would."""
    reason = _missing()
    if reason is not None:
        yield absent(NAME, reason)
        return
    from export.errors import ExportError

    with tempfile.TemporaryDirectory() as parent:
        folder = Path(shutil.copytree(providers.ENGINE, Path(parent) / "tiny"))
        try:
            yield _built(folder)
            options = RuntimeOptions("cuda", runtime="tensorrt", precision="fp16", max_error=math.inf)
            yield providers.run("plan, as served", folder, options)
        except (ExportError, EngineError) as error:
            yield problem(NAME, str(error), MEND)


def _missing() -> str | None:
    """Return what is not here that a build needs; None if all is."""
    if not gpu.nodes():
        return "there is no GPU"
    try:
        version()
    except RuntimeUnavailableError as error:
        return str(error)
    forms = {graph.form for graph in Manifest.read(providers.ENGINE).graphs}
    return None if "onnxruntime/fp16" in forms else "the tiny engine has no fp16 graph to build from"


def _built(folder: Path) -> Finding:
    """Build the plan. Raises ExportError or EngineError, also where it computes something else."""
    from export.tensorrt.build import Request as BuildRequest
    from export.tensorrt.build import build

    request = BuildRequest(buckets=(BUCKET_SECONDS,), rows=ROWS, level=LEVEL)
    graph, checks = build(folder, request, lambda step: None, _Silent())
    return ok(NAME, f"TensorRT {version()} built {graph.name}: {providers.worst(checks)}")


class _Silent:
    """Shows nothing of a build."""

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """Do nothing."""

    def advance(self, phase: str, steps: int) -> None:
        """Do nothing."""

    def end(self, phase: str) -> None:
        """Do nothing."""
