"""Every example of README.md and docs/ gives what stands below it, and every link leads somewhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.reference import rewrite
from tests.documents import PAGES, ROOT, Example, demo, examples, is_as_written, run, workplace
from tests.server.process import Server

FENCE = re.compile(r"^```(\w*)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
names = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with demo() as running:
        yield running


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@names
def test_the_examples_print_what_the_page_says(server: Server, path: Path) -> None:
    with workplace() as folder:
        for example in examples(path.read_text()):
            output = run(example, server, folder)
            # Written anew by: python -m tests.documents
            assert is_as_written(output, example), f"{example.code}\nprints:\n{output}\nnot:\n{example.output}"


def test_there_is_an_example_for_each_task() -> None:
    commands = " ".join(example.code for example in examples((ROOT / "README.md").read_text()))
    assert all(f"/v1/{task}" in commands for task in ("encode", "transcribe", "classify"))


@names
def test_nothing_that_could_be_run_is_left_out(path: Path) -> None:
    page = path.read_text()
    found = examples(page)
    assert page.count("\n$ ") == sum(not example.is_python for example in found)
    assert FENCE.findall(page).count("python") == sum(example.is_python for example in found)
    assert not re.search(r"^curl ", page, re.MULTILINE)


@names
def test_the_tables_are_up_to_date(path: Path) -> None:
    page = path.read_text()
    assert page == rewrite(page), "write them anew: python -m server.reference docs"


@names
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text()):
        file = path.parent / target if target else path
        assert file.exists(), target
        if anchor:
            assert anchor in {anchor_of(heading) for heading in HEADING.findall(file.read_text())}, (target, anchor)


def anchor_of(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    ("code", "written", "printed", "same"),
    [
        ("curl", '{"score":0.97365}', '{"score":0.97366}', True),
        ("curl", '{"score":0.97365}', '{"score":0.98365}', False),
        ("curl", '{"label":"call"}', '{"label":"music"}', False),
        ("curl", "[1.0,2.0]", "[1.0,2.0,3.0]", False),
        ("curl | cut -c -30", '{"values":[0.107576,0.59223', '{"values":[0.1075761,0.5922', True),
        ("curl | cut -c -30", '{"values":[0.107576,0.59223', '{"values":[0.2075761,0.5922', False),
    ],
)
def test_digits_may_differ_in_the_last_places_and_nothing_else(
    code: str, written: str, printed: str, same: bool
) -> None:
    assert is_as_written(printed, Example(code, written, 0, is_python=False)) is same


def test_examples_are_found_in_their_order() -> None:
    page = "```console\n$ curl a \\\n    b\nfirst\n$ curl c\n```\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n"
    found = examples(page)
    assert [(one.code, one.output) for one in found] == [
        ("curl a \\\n    b", "first\n"),
        ("curl c", ""),
        ("print(1)\n", "1\n"),
    ]
    assert all(page[one.begin :].startswith(one.output) for one in found)
