"""Writes deploy/requirements: `python -m deploy.lock`, or `make locks`.

A lock names every package that an image installs, with the hashes of its files as the public index has them, for all
Pythons and processors that a base image may have. The versions are those of this environment where it has the package:
what the tests ran with is what the images hold. Everything else is the newest that fits.

torch is in none of them, nor what its build for GPUs brings: which build it is decides which index has it, and the
Dockerfile's TORCH and TORCH_INDEX say both. So it is with TENSORRT.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "requirements"
# By lock: the extras of pyproject.toml, and requirements beside them. `cpu` has all that a processor can run.
LOCKS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "cpu": (("serve", "openvino"), ()),
    # CUDA 13 and cuDNN as wheels, and of the tensorrt extra what is on the public index.
    "gpu": (("gpu",), ("onnxruntime-gpu[cuda,cudnn]", "cuda-python>=13")),
    "export": (("export", "serve", "openvino"), ()),
    "build": ((), ("hatchling>=1.26",)),
}
OLDEST_PYTHON = "3.11"
# On whose index alone, or only for GPUs.
LEFT_OUT = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")
# Of this environment, those that would hold others back: NVIDIA's are released together.
UNRELATED = re.compile(r"(torch|nvidia-.*|cuda-.*)$")
HEADER = """\
# What the target "{name}" of the Dockerfile installs. Written by `make locks`; install it with
#   pip install --require-hashes -r deploy/requirements/{name}.txt
"""


def main() -> int:
    """Write every lock; return the exit status."""
    for name, (extras, requirements) in LOCKS.items():
        try:
            text = compiled(extras, requirements)
        except subprocess.CalledProcessError as error:
            print(f"lock: {name}: {error.stderr.strip()}", file=sys.stderr)
            return 1
        if name == "export":
            text = "".join(block for block in blocks(text) if not LEFT_OUT.match(block))
        path = FOLDER / f"{name}.txt"
        path.write_text(HEADER.format(name=name) + text)
        print(f"Wrote {path.relative_to(ROOT)}: {len(list(blocks(text)))} packages")
    return 0


def compiled(extras: Sequence[str], requirements: Sequence[str]) -> str:
    """Return the lock of those extras of pyproject.toml and those requirements."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, held = Path(folder, "wanted.in"), Path(folder, "held.txt")
        wanted.write_text("".join(f"{line}\n" for line in requirements))
        held.write_text("".join(f"{line}\n" for line in installed()))
        command = [
            *(sys.executable, "-m", "uv", "pip", "compile", "--universal", f"--python-version={OLDEST_PYTHON}"),
            *("--generate-hashes", "--no-annotate", "--no-header", "--quiet", f"--constraints={held}"),
            *(f"--extra={extra}" for extra in extras),
            *([str(ROOT / "pyproject.toml")] if extras else []),
            str(wanted),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def installed() -> Iterator[str]:
    """Yield the versions of this environment."""
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    for one in distributions():
        if one.name != ours and not UNRELATED.match(one.name.lower()):
            yield f"{one.name}=={one.version}"


def blocks(text: str) -> Iterator[str]:
    """Yield each package of a lock with its hashes."""
    yield from re.findall(r"^[^\s#].*\n(?:[ \t].*\n)*", text, re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
