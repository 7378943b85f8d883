"""What was found: deploy/verify/results.json, and the page that is written from it, deploy/VERIFIED.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from deploy.verify.shell import CONTROL, ROOT, run

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "deploy" / "VERIFIED.md"
HEAD = """\
# What was run

Written by `make containers`, which builds the images on a base image of Debian's packages, brings docker-compose.yml
up with podman-compose, and attacks what runs. Prometheus and HAProxy are Debian's, in place of the images that the file
names.
"""
NOT_RUN = """\
Not run: the profiles `gpu`, `rolling-gpu` and `build`, for want of a GPU; TensorRT's libraries, which the target `gpu`
installs by default; Docker itself, for which the compose file is checked against the schema of its specification
(`tests/deploy`); the container of Grafana.
"""


class Size(BaseModel):
    """A target: bytes of its image, unpacked, of which some are the base image's; seconds of the build."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    note: str = ""
    bytes: int
    base_bytes: int
    build_seconds: float


class Step(BaseModel):
    """A step of the verification, what was found, and how long it took."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    found: str
    seconds: float


class Results(BaseModel):
    """One run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: str
    commit: str
    system: str
    versions: dict[str, str]
    fresh: bool = False  # every layer was built in this run: without that, the seconds of a build tell nothing
    sizes: tuple[Size, ...]
    steps: tuple[Step, ...]


def collect(sizes: Iterable[Size], steps: Iterable[Step], *, fresh: bool) -> Results:
    """Return the results of a run, as of now."""
    versions = {
        "podman": run(["podman", "--version"]).stdout.split()[-1],
        "podman-compose": _version_of_compose(),
        "python": platform.python_version(),
    }
    return Results(
        date=datetime.now(UTC).date().isoformat(),
        commit=run(["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], ok=False).stdout.strip(),
        system=f"{platform.system()} {platform.machine()}",
        versions=versions,
        fresh=fresh,
        sizes=tuple(sizes),
        steps=tuple(steps),
    )


def write(results: Results) -> None:
    """Write the results, and the page."""
    for path, text in ((RESULTS, results.model_dump_json(indent=1) + "\n"), (PAGE, page(results))):
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text)
        partial.replace(path)


def read() -> Results:
    """Return the results of the last run. Raises OSError, or pydantic's ValidationError."""
    return Results.model_validate_json(RESULTS.read_bytes())


def page(results: Results) -> str:
    """Return the page of `results`."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        HEAD,
        f"{results.date}, commit {results.commit}, {results.system}, {versions}.",
        "",
        "## Sizes",
        "",
        "| target | image, MB | of these the base image | built in |",
        "|---|---:|---:|---:|",
        *(_size_row(size, fresh=results.fresh) for size in results.sizes),
        "",
        "Unpacked. Times are those of builds without any layer of an earlier one; pip has its downloads of before.",
        "",
        "## Steps",
        "",
        "| | found | seconds |",
        "|---|---|---:|",
        *(f"| {step.name} | {_cell(step.found)} | {step.seconds:.1f} |" for step in results.steps),
        "",
        NOT_RUN,
    ]
    return "\n".join(lines)


def _size_row(size: Size, *, fresh: bool) -> str:
    note = f" ({size.note})" if size.note else ""
    seconds = f"{size.build_seconds:.0f} s" if fresh else "-"
    return f"| {size.target}{note} | {size.bytes / 1e6:.0f} | {size.base_bytes / 1e6:.0f} | {seconds} |"


def _cell(text: str) -> str:
    return CONTROL.sub("", text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _version_of_compose() -> str:
    lines = run(["podman-compose", "--version"]).stdout.splitlines()
    return next((line.split()[-1] for line in lines if line.startswith("podman-compose")), "unknown")
