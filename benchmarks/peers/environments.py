"""The environments of the peers: each has its packages at pinned versions, and none of them is a dependency of ours.

An environment is made once, in the cache outside the checkout, from `requirements/NAME.txt`, and is found again as long
as that file and Python stay the same. pip takes what it is configured to: where it is not told otherwise, torch for
Linux comes with its CUDA packages, which `PIP_EXTRA_INDEX_URL` of torch's builds for processors avoids.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
CREATED_WITHIN_SECONDS = 120.0
INSTALLED_WITHIN_SECONDS = 1800.0
PACKAGES = "packages.json"  # in the folder of an environment; written last
# Settings of the caller's interpreter, which must not reach into another.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class EnvironmentFailedError(ValueError):
    """An environment could not be made: its peers are left out."""


@dataclass(frozen=True)
class Environment:
    """Where the scripts of some peers run."""

    name: str
    python: Path
    packages: dict[str, str]  # name: version, of everything that is installed in it

    def versions(self, *names: str) -> dict[str, str]:
        """Return the versions of the packages that a reader asks about."""
        return {name: self.packages[name] for name in names if name in self.packages}


def own() -> Environment:
    """Return the environment of this process: for what is measured against the peers, and for quick runs."""
    packages = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    return Environment("own", Path(sys.executable), packages)


def make(name: str, cache: Path, progress: Callable[[str], None]) -> Environment:
    """Return the environment of `requirements/NAME.txt`, which is made below `cache` unless it is there.

    Raises EnvironmentFailedError with what pip says last.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = cache / "peers" / f"{name}-{key(requirements)}"
    python = folder / "bin" / "python"
    if not (folder / PACKAGES).is_file():
        progress(f"Making the environment of {name}")
        shutil.rmtree(folder, ignore_errors=True)  # what an install that was stopped has left
        folder.parent.mkdir(parents=True, exist_ok=True)
        _call(name, [sys.executable, "-m", "venv", str(folder)], CREATED_WITHIN_SECONDS)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # torch first and by its exact version: what else is asked for would bring its newest build.
        for torch in (line for line in lines(requirements) if line.startswith("torch==")):
            progress(f"Installing {torch} for {name}")
            _call(name, [*install, torch], INSTALLED_WITHIN_SECONDS)
        progress(f"Installing {', '.join(lines(requirements))}")
        _call(name, [*install, "--requirement", str(requirements)], INSTALLED_WITHIN_SECONDS)
        partial = folder / f"{PACKAGES}.partial"
        partial.write_text(json.dumps(installed(python), indent=1), encoding="utf-8")
        partial.replace(folder / PACKAGES)
    return Environment(name, python, json.loads((folder / PACKAGES).read_text(encoding="utf-8")))


def key(requirements: Path) -> str:
    """Return what an environment follows from, as a short hash."""
    made_of = [lines(requirements), platform.python_version(), platform.machine()]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def lines(requirements: Path) -> list[str]:
    """Return the requirements of a file, without its comments."""
    stripped = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line for line in stripped if line]


def installed(python: Path) -> dict[str, str]:
    """Return the packages of an interpreter with their versions."""
    listed = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    found = subprocess.run(listed, capture_output=True, text=True, check=True, env=environment())
    return {package["name"].lower(): package["version"] for package in json.loads(found.stdout)}


def environment(threads: int | None = None, **settings: str) -> dict[str, str]:
    """Return the environment variables of a peer's process.

    They are those of this one without what is Python's, offline, with so many `threads`, if that is said, for
    everything that takes its number from there, and with `settings`.
    """
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    kept |= {"PYTHONNOUSERSITE": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if threads is not None:
        kept |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return kept | settings


def _call(name: str, command: list[str], seconds: float) -> None:
    """Run a step of the making; EnvironmentFailedError with the end of what it says where it fails."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds, env=environment())
    except subprocess.TimeoutExpired:
        raise EnvironmentFailedError(f"{name}: the install took longer than {seconds:g} s") from None
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()
        problem = next((line for line in reversed(said) if line.startswith("ERROR:")), said[-1] if said else str(error))
        raise EnvironmentFailedError(f"{name}: the install failed: {problem.removeprefix('ERROR: ')}") from None
