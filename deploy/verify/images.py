"""The images: built, measured, looked into."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.verify import podman
from deploy.verify.shell import ROOT, check, run

BUILD_SECONDS = 3600
# What serves is not to have: what exports, and what compiles.
NOT_SERVED = ("torch", "transformers", "onnx", "onnxscript", "pip")
COMPILERS = ("cc", "gcc", "g++", "clang", "ld", "as", "make", "nvcc", "rustc", "go")
LABELS = ("title", "description", "version", "revision", "licenses", "base.name")
STANDINS = Path(__file__).with_name("standins.Dockerfile")


@dataclass(frozen=True)
class Image:
    """An image that was built here: what it is called, its size in bytes and that of its base, seconds of the build."""

    target: str
    name: str
    size: int
    base_size: int
    seconds: float


class Builder:
    """Builds targets of the Dockerfile on a base image, reaching packages as this host does."""

    def __init__(self, base: str, folder: Path, *, use_cache: bool = True) -> None:
        self.base = base
        self._folder = folder
        self._options = [
            *("--format", "docker"),  # the other one has no health checks
            *("--isolation", "chroot", "--network", "host"),
            *podman.pip_settings(folder),
            *([] if use_cache else ["--no-cache"]),
        ]

    def build(self, target: str, *arguments: str, base: str | None = None, file: Path = ROOT / "Dockerfile") -> Image:
        """Build `target`; `arguments` are its build arguments. Raises VerificationError with the last lines."""
        name = f"localhost/sonant:{target}"
        base = base or self.base
        given = [f"BASE_IMAGE={base}", f"REVISION={_revision()}", *arguments]
        options = [option for one in given for option in ("--build-arg", one)]
        start = time.monotonic()
        run(
            ["podman", "build", *self._options, *options, "--target", target, "--tag", name, "--file", file, ROOT],
            seconds=BUILD_SECONDS,
            log=self._folder / f"build-{target}.log",
        )
        return Image(target, name, size_of(name), size_of(base), time.monotonic() - start)

    def refusal(self, base: str) -> str:
        """Return what a build on `base` ends with; raises VerificationError if it is not refused."""
        options = [*self._options, "--build-arg", f"BASE_IMAGE={base}", "--target", "base"]
        done = run(["podman", "build", *options, ROOT], seconds=BUILD_SECONDS, ok=False)
        check(done.returncode, f"an image was built on {base}")
        return done.stdout


def size_of(image: str) -> int:
    """Return the bytes of an image, unpacked."""
    return int(run(["podman", "image", "inspect", "--format", "{{.Size}}", image]).stdout)


def check_server(image: Image) -> str:
    """Check what an image that serves has and has not; return what was found."""
    code = (
        "import importlib.util, json, shutil;"
        f"print(json.dumps([[name for name in {NOT_SERVED!r} if importlib.util.find_spec(name)],"
        f"[name for name in {COMPILERS!r} if shutil.which(name)]]))"
    )
    modules, compilers = json.loads(run_python(image.name, code))
    check(not modules, f"{image.name} has {', '.join(modules)}")
    check(not compilers, f"{image.name} has compilers: {', '.join(compilers)}")
    return f"none of {', '.join((*NOT_SERVED, *COMPILERS))}"


def check_configuration(image: Image) -> str:
    """Check the user, the volumes, the labels and the health check of an image; return its version and revision."""
    [found] = json.loads(run(["podman", "image", "inspect", image.name]).stdout)
    configuration, labels = found["Config"], found["Labels"]
    check(configuration["User"] == "10001:10001", f"{image.name} runs as {configuration['User']}")
    volumes = sorted(configuration["Volumes"])
    check(volumes == ["/cache", "/models", "/spool"], f"{image.name} has the volumes {volumes}")
    named = {name.removeprefix("org.opencontainers.image.") for name in labels}
    check(named >= set(LABELS), f"{image.name} has no labels {set(LABELS) - named}")
    entry = configuration["Entrypoint"]
    check(entry[0] == "sonant", f"{image.name} begins with {entry}")
    check(image.target == "export" or found.get("Healthcheck"), f"{image.name} has no health check")
    return f"{labels['org.opencontainers.image.version']}, {labels['org.opencontainers.image.revision']}"


def run_python(image: str, code: str, options: Sequence[str] = ()) -> str:
    """Return what `code` prints in a container of `image`, run by its Python."""
    command = ["podman", "run", "--rm", "--read-only", *options, "--entrypoint", "/opt/sonant/bin/python", image]
    return run([*command, "-c", code]).stdout


def _revision() -> str:
    done = run(["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], ok=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
