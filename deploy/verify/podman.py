"""podman where there may be neither systemd nor a registry: its settings, and a base image of Debian's packages."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploy.verify.shell import VerificationError, run

BASE_IMAGE = "localhost/sonant-base:bookworm"
SUITE = "bookworm"  # of which python:3.11-slim-bookworm, the Dockerfile's default, is made too
PACKAGES = "ca-certificates,python3,python3-venv,python3-pip"
# By command: the package that has it.
NEEDED = {
    "podman": "podman",
    "buildah": "buildah",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
    "/usr/libexec/podman/catatonit": "catatonit",
}
SETTINGS = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
log_driver = "k8s-file"
"""
# As many open files as docker-compose.yml asks for, where this host may give them.
MAX_FILES = 65_536
DEBOOTSTRAP_SECONDS = 1200


def prepare(folder: Path) -> None:
    """Give podman, and what runs it, settings that work here. Raises VerificationError naming what is missing."""
    if os.geteuid() != 0:
        raise VerificationError("run this as root: debootstrap and the build's isolation need it")
    missing = [package for command, package in NEEDED.items() if shutil.which(command) is None]
    if missing:
        raise VerificationError(f"not installed: apt-get install --no-install-recommends {' '.join(missing)}")
    if shutil.which("podman-compose") is None:
        raise VerificationError("podman-compose is not installed: pip install podman-compose")
    settings = folder / "containers.conf"
    settings.write_text(SETTINGS.format(files=open_files()))
    os.environ["CONTAINERS_CONF"] = str(settings)


def open_files() -> int:
    """Return how many files a container may have open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)


def base_image(log: Path) -> str:
    """Return the name of a base image, made if it is not there."""
    if not run(["podman", "image", "exists", BASE_IMAGE], ok=False).returncode:
        return BASE_IMAGE
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        command: list[str | Path] = [
            "debootstrap",
            "--variant=minbase",
            f"--include={PACKAGES}",
            SUITE,
            root,
            _mirror(),
        ]
        run(command, seconds=DEBOOTSTRAP_SECONDS, log=log)
        archive = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        try:
            subprocess.run(["podman", "import", "-", BASE_IMAGE], stdin=archive.stdout, check=True, capture_output=True)
        finally:
            archive.kill()
            archive.wait()
    return BASE_IMAGE


def _mirror() -> str:
    """Return the address of the packages that apt uses here."""
    found = run(["apt-get", "indextargets", "--format", "$(SITE)"]).stdout.split()
    if not found:
        raise VerificationError("apt knows no packages: apt-get update")
    return found[0]


def pip_settings(folder: Path) -> list[str]:
    """Return the options of `podman build` with which pip inside of it reaches what it reaches here."""
    lines = dict(_pip_lines())
    settings = folder / "pip.conf"
    settings.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    words = " ".join(lines.values()).split()
    paths = {Path(word.removeprefix("file://").removesuffix("/simple")) for word in words if "/" in word}
    mounts = [f"--volume={path}:{path}:ro" for path in sorted(paths) if path.is_absolute() and path.exists()]
    return ["--secret", f"id=pip,src={settings}", *mounts]


def _pip_lines() -> Iterator[tuple[str, str]]:
    """Yield what pip is told here, by its files and by its environment, which comes last and wins."""
    lines = run(["python3", "-m", "pip", "config", "list"]).stdout.splitlines()
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install", ":env:"):
            yield key, value.strip("'\"").replace("\\n", " ")
