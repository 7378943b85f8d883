"""Every command of the README that starts with `$ curl` gives the output that stands below it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import Server, serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def examples() -> list[tuple[str, str]]:
    """Return (command, output) of each curl; a command goes on where a line ends with a backslash."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for command, output in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if command.startswith("curl"):
                found.append((command, output))
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The demo, with the defaults that `make serve` gives it."""
    defaults = dict(re.findall(r"--default (\w+)=(\S+)", (ROOT / "Makefile").read_text()))
    with serving(ROOT / "demo" / "engines", defaults=defaults) as running:
        yield running


def test_there_is_an_example_for_each_task() -> None:
    commands = " ".join(command for command, _ in examples())
    assert all(f"/v1/{task}" in commands for task in ("encode", "transcribe", "classify"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("command", "expected"), examples(), ids=lambda value: value[:50])
def test_the_output_is_what_the_readme_says(server: Server, command: str, expected: str) -> None:
    """Digits may differ in the last places from one processor to the next, nothing else may."""
    command = command.replace(":8000", f":{server.port}").replace("curl ", "curl --silent --show-error ", 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert not done.stderr
    texts = [done.stdout.strip(), expected.strip()]
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in texts]
    shapes = [NUMBER.sub("#", text) for text in texts]
    if "| cut " in command:  # where the last number is cut depends on the digits before it
        numbers = [values[: min(map(len, numbers)) - 1] for values in numbers]
        shapes = [shape.rpartition("#")[0][: min(map(len, shapes)) - 9] for shape in shapes]
    assert shapes[0] == shapes[1]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=1e-4)
