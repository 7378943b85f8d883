"""The Dockerfile, as far as it can be read; `make containers` builds it."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from packaging.requirements import Requirement

from tests.deploy.test_compose import compose

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "Dockerfile").read_text()
# Without comments, and a line for each instruction.
LINES = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(\S+)$", TEXT, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = {stage.split()[0]: stage for stage in re.split(r"^FROM \S+ AS ", "\n".join(LINES), flags=re.MULTILINE)[1:]}


def wanted(extra: str, package: str) -> Requirement:
    found = [Requirement(line) for line in PROJECT["optional-dependencies"][extra]]
    return next(one for one in found if one.name == package)


def test_its_versions_are_those_of_the_project() -> None:
    assert ARGUMENTS["VERSION"] == PROJECT["version"]
    assert wanted("export", "torch").specifier.contains(ARGUMENTS["TORCH"])
    assert wanted("tensorrt", "tensorrt-cu13").specifier.contains(ARGUMENTS["TENSORRT"])
    assert f"TORCH ?= torch=={ARGUMENTS['TORCH']}" in (ROOT / "Makefile").read_text()


def test_the_compose_file_builds_with_the_same_arguments() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("build", {}).get("args", {}).items():
            assert ARGUMENTS[name] == value
        assert "build" not in service or service["build"]["target"] in STAGES


def test_what_is_copied_is_there_and_is_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [
        source for line in LINES if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
    ]
    assert len(sources) > 5
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch(source, pattern) or fnmatch(source, f"{pattern}/*") for pattern in allowed), source


def test_the_wheel_has_every_package() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in packages["packages"]:
        assert f"COPY {package} {package}" in STAGES["wheel"]


def test_nobody_is_root_and_no_shell_stands_in_between() -> None:
    assert STAGES["runtime"].count("\nUSER 10001:10001") == 1
    assert not any("\nUSER" in text for name, text in STAGES.items() if name != "runtime")
    for line in LINES:
        if line.startswith(("ENTRYPOINT", "CMD", "HEALTHCHECK")):
            assert re.search(r"(ENTRYPOINT|CMD) \[", line), line


def test_no_server_has_torch_and_nothing_is_installed_in_an_image() -> None:
    for name in ("runtime", "server", "cpu", "gpu", "export"):
        assert "pip" not in STAGES[name]
    for name in ("cpu-environment", "gpu-environment"):
        assert "torch" not in STAGES[name].lower()
    installs = [line for line in LINES if " install " in line and "-r /tmp" in line]
    assert len(installs) == 4
    assert all("--require-hashes" in line for line in installs)


def test_the_last_target_is_the_default_one() -> None:
    assert list(STAGES)[-1] == "cpu"
