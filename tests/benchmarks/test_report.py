from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter\n")
    return path


def test_every_result_becomes_a_table(results: Path, readme: Path) -> None:
    assert report.main(["--results", str(results), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\n\nAfter\n")
    assert "old" not in text
    assert "### Latency: tiny" in text
    assert "### Truncated graphs: tiny" in text
    widths = {line.count("|") for line in text.split("###")[1].splitlines() if line.startswith("|")}
    assert widths == {11}


def test_check_tells_whether_the_tables_are_current(results: Path, readme: Path) -> None:
    options = ["--results", str(results), "--readme", str(readme)]
    assert report.main([*options, "--check"]) == 1
    assert "old" in readme.read_text()
    assert report.main(options) == 0
    assert report.main([*options, "--check"]) == 0


def test_without_results_it_says_so(readme: Path, tmp_path: Path) -> None:
    assert report.main(["--results", str(tmp_path / "none"), "--readme", str(readme)]) == 0
    assert "Nothing has been recorded yet." in readme.read_text()


def test_a_file_that_is_no_result_is_named(readme: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.json").write_text('{"benchmark": "odd"}')
    assert report.main(["--results", str(tmp_path), "--readme", str(readme)]) == 1
    assert "odd.json is no result" in capsys.readouterr().err


def test_a_file_without_markers_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("mine")
    assert report.main(["--results", str(tmp_path), "--readme", str(readme)]) == 1
    assert readme.read_text() == "mine"
    assert "markers are missing" in capsys.readouterr().err


def test_the_tables_in_this_repository_are_current() -> None:
    assert report.main(["--check"]) == 0
