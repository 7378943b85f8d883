from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import report


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the two pages, and no results."""
    for page in report.PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter\n")
    return tmp_path


def measurements(root: Path) -> str:
    return (root / "benchmarks" / "README.md").read_text()


def test_every_result_becomes_a_table(results: Path, root: Path) -> None:
    shutil.copytree(results, root / report.RESULTS)
    assert report.main(["--root", str(root)]) == 0
    text = measurements(root)
    assert text.startswith("# Before\n")
    assert text.endswith("\n\nAfter\n")
    assert "old" not in text
    assert "### Latency: tiny" in text
    assert "### Truncated graphs: tiny" in text
    widths = {line.count("|") for line in text.split("###")[1].splitlines() if line.startswith("|")}
    assert widths == {11}


def test_check_tells_whether_the_tables_are_current(results: Path, root: Path) -> None:
    shutil.copytree(results, root / report.RESULTS)
    options = ["--root", str(root)]
    assert report.main([*options, "--check"]) == 1
    assert "old" in measurements(root)
    assert report.main(options) == 0
    assert report.main([*options, "--check"]) == 0


def test_without_results_it_says_so(root: Path) -> None:
    assert report.main(["--root", str(root)]) == 0
    assert "Nothing has been recorded yet." in measurements(root)


def test_a_file_that_is_no_result_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / report.RESULTS).mkdir()
    (root / report.RESULTS / "odd.json").write_text('{"benchmark": "odd"}')
    assert report.main(["--root", str(root)]) == 1
    assert "odd.json is no result" in capsys.readouterr().err


def test_a_file_without_markers_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "README.md").write_text("mine")
    assert report.main(["--root", str(root)]) == 1
    assert (root / "README.md").read_text() == "mine"
    assert "README.md: the markers are missing" in capsys.readouterr().err


def test_the_tables_in_this_repository_are_current() -> None:
    assert report.main(["--check"]) == 0
