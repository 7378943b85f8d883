"""The examples of README.md and docs/: found, run against the demo, compared with what stands below them.

Run are the commands in ```console blocks, each after `$ `, with what it prints below it; and every ```python block, a
program of its own, whose output is the ```text block behind it. All examples of a page run in one empty folder, from
the first to the last.

`python -m tests.documents [PAGE...]` writes what they print now into the pages, where it differs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server.process import Server, serving

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
# A command goes on where a line ends with a backslash.
COMMAND = re.compile(r"^\$ (?P<code>(?:.*\\\n)*.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)
PYTHON = re.compile(r"```python\n(?P<code>(?:(?!```).*\n)*)```\n\n```text\n(?P<output>(?:(?!```).*\n)*)```")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
# The port of the pages; the server of the tests has another.
PORT = ":8000"
# Digits may differ in the last places from one processor to the next.
RELATIVE, ABSOLUTE = 1e-3, 1e-4
# Of one example, on a busy machine.
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Example:
    """What a page says that `code` prints, and where in the page that begins."""

    code: str
    output: str
    begin: int
    is_python: bool


def examples(page: str) -> list[Example]:
    """Return the examples of `page`, in their order."""
    found = [
        Example(command["code"], command["output"], block.start(1) + command.start("output"), is_python=False)
        for block in CONSOLE.finditer(page)
        for command in COMMAND.finditer(block[1])
    ]
    found += [Example(one["code"], one["output"], one.start("output"), is_python=True) for one in PYTHON.finditer(page)]
    return sorted(found, key=lambda example: example.begin)


@contextmanager
def demo() -> Iterator[Server]:
    """Run what `make serve` runs."""
    defaults = dict(re.findall(r"--default (\w+)=(\S+)", (ROOT / "Makefile").read_text()))
    with serving(ROOT / "demo" / "engines", defaults=defaults) as running:
        yield running


@contextmanager
def workplace() -> Iterator[Path]:
    """Return a folder that has what stands in a checkout, and whose other files nobody else sees."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("demo", "docs"):
            (Path(folder) / name).symlink_to(ROOT / name)
        yield Path(folder)


def run(example: Example, server: Server, folder: Path) -> str:
    """Return what `example` prints in `folder`. Raises AssertionError if it fails."""
    code = example.code.replace(PORT, f":{server.port}")
    if not example.is_python:
        code = re.sub(r"^curl ", "curl --silent --show-error ", code)
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, "-c", code] if example.is_python else ["bash", "-o", "pipefail", "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=TIMEOUT_SECONDS,
        # As wide as a page: help and tables fit themselves to it.
        env=os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "COLUMNS": "120", "SONANT_CALIBRATE": "off"},
        check=False,
    )
    assert not done.returncode, f"{code}\nends with {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout.replace(f":{server.port}", PORT)


def is_as_written(output: str, example: Example) -> bool:
    """Whether `output` is what the page says, but for the last digits of numbers."""
    texts = [output.strip(), example.output.strip()]
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in texts]
    shapes = [NUMBER.sub("#", text) for text in texts]
    if "| cut " in example.code:  # where the last number is cut depends on the digits before it
        numbers = [values[: min(map(len, numbers)) - 1] for values in numbers]
        shapes = [shape.rpartition("#")[0][: min(map(len, shapes)) - 9] for shape in shapes]
    return shapes[0] == shapes[1] and numbers[0] == pytest.approx(numbers[1], rel=RELATIVE, abs=ABSOLUTE)


def rewritten(page: str, server: Server) -> str:
    """Return `page` with what its examples print now."""
    parts, end = [], 0
    with workplace() as folder:
        for example in examples(page):
            output = run(example, server, folder)
            if not is_as_written(output, example):
                parts += [page[end : example.begin], output.rstrip("\n") + "\n" if output.strip() else ""]
                end = example.begin + len(example.output)
    return "".join([*parts, page[end:]])


if __name__ == "__main__":
    with demo() as running:
        for path in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
            path.write_text(rewritten(path.read_text(), running))
