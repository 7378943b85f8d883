"""The locks: complete, hashed, and without what decides between builds of torch."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.lock import FOLDER, LOCKS, blocks

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENVIRONMENT = {"sys_platform": "linux", "platform_machine": "x86_64", "python_full_version": "3.11.0"}
# By the Dockerfile's arguments TORCH and TENSORRT.
ELSEWHERE = {"torch", "tensorrt-cu13"}
every = pytest.mark.parametrize("name", LOCKS)


def locked(name: str) -> dict[str, str]:
    """The packages of a lock with their versions, as on Linux."""
    found = {}
    for block in blocks((FOLDER / f"{name}.txt").read_text()):
        requirement = Requirement(block.partition(" \\")[0])
        if requirement.marker is None or requirement.marker.evaluate(ENVIRONMENT):
            found[requirement.name.lower()] = str(requirement.specifier).removeprefix("==")
    return found


def wanted(extra: str) -> list[Requirement]:
    """What an extra asks for, also by way of others, beside what the project always needs."""
    found = []
    for line in PROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == "sonant":
            found += [one for other in requirement.extras for one in wanted(other)]
        else:
            found.append(requirement)
    return found


@every
def test_every_package_is_pinned_with_hashes(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()
    found = list(blocks(text))
    assert len(found) > 4
    assert "".join(found) == re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for block in found:
        assert re.match(r"[\w.-]+==[^\s;]+( ;[^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


@every
def test_it_has_what_the_project_asks_for(name: str) -> None:
    extras, others = LOCKS[name]
    asked = [one for extra in extras for one in wanted(extra)] + [Requirement(line) for line in others]
    asked += [Requirement(line) for line in PROJECT["project"]["dependencies"]] if extras else []
    found = locked(name)
    for requirement in asked:
        if requirement.name not in ELSEWHERE:
            assert requirement.specifier.contains(found[requirement.name.lower()]), f"{requirement}: run `make locks`"


def test_one_onnxruntime_and_no_torch() -> None:
    assert "onnxruntime-gpu" not in {**locked("cpu"), **locked("export")}
    assert "onnxruntime" not in locked("gpu")
    for name in LOCKS:
        assert not {"torch", "triton", "tensorrt-cu13"} & set(locked(name))
    assert not [package for package in locked("export") if package.startswith(("nvidia", "cuda"))]


def test_the_gpu_has_cuda_13_and_the_same_onnxruntime() -> None:
    gpu = locked("gpu")
    assert gpu["onnxruntime-gpu"] == locked("cpu")["onnxruntime"]
    assert gpu["nvidia-cuda-runtime"].startswith("13.")
    assert {"nvidia-cudnn-cu13", "nvidia-cublas", "cuda-python"} <= set(gpu)


def test_images_hold_what_the_tests_ran_with() -> None:
    """As far as they share a package; of one release, since `make test` may bring a newer environment."""
    served, exported = locked("cpu"), locked("export")
    assert all(exported[name] == version for name, version in served.items() if name in exported)


def test_the_build_has_what_builds_it() -> None:
    [backend] = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    assert backend.specifier.contains(locked("build")[backend.name])
