from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import markdown, report
from benchmarks.base import Run, Table
from benchmarks.findings import Finding, Promise
from benchmarks.machine import ROOT

RESULTS = ROOT / report.RESULTS
POLICY = RESULTS / "policy.json"


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
    widths = {line.count("|") for line in text.split("###")[2].splitlines() if line.startswith("|")}
    assert widths == {8}


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


class TestPictures:
    @pytest.fixture
    def drawn(self, root: Path) -> Path:
        """A checkout whose one result has a chart, that is drawn."""
        (root / report.RESULTS).mkdir()
        shutil.copy(POLICY, root / report.RESULTS)
        assert report.main(["--root", str(root)]) == 0
        return root

    def test_charts_are_drawn_and_shown(self, drawn: Path) -> None:
        assert (drawn / report.PICTURES / "policy.svg").read_text().startswith("<svg")
        assert "](pictures/policy.svg)" in measurements(drawn)

    def test_check_covers_them(self, drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
        picture = drawn / report.PICTURES / "policy.svg"
        options = ["--root", str(drawn)]
        assert report.main([*options, "--check"]) == 0
        picture.write_text("<svg/>")
        assert report.main([*options, "--check"]) == 1
        assert "policy.svg is out of date" in capsys.readouterr().err
        assert picture.read_text() == "<svg/>"
        assert report.main(options) == 0
        assert picture.read_text() != "<svg/>"

    def test_what_no_result_has_any_more_goes(self, drawn: Path) -> None:
        (drawn / report.RESULTS / POLICY.name).unlink()
        options = ["--root", str(drawn)]
        assert report.main([*options, "--check"]) == 1
        assert report.main(options) == 0
        assert not list((drawn / report.PICTURES).iterdir())

    def test_two_charts_of_one_name_are_refused(self, drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copy(POLICY, drawn / report.RESULTS / "again.json")
        assert report.main(["--root", str(drawn)]) == 1
        assert "two results have a chart of this name" in capsys.readouterr().err


class TestSummary:
    def test_a_page_that_has_a_place_for_it_gets_it(self, root: Path) -> None:
        page = root / "benchmarks" / "README.md"
        page.write_text(f"{report.SUMMARY_BEGIN}old{report.SUMMARY_END}\n{page.read_text()}")
        (root / report.RESULTS).mkdir()
        shutil.copy(RESULTS / "layers-hubert-base.json", root / report.RESULTS)
        assert report.main(["--root", str(root)]) == 0
        summary = measurements(root).partition(report.SUMMARY_END)[0]
        assert "old" not in summary
        assert "**Promises**: 1 of 1 are kept." in summary

    def test_it_says_what_is_gained_and_what_is_missed(self) -> None:
        text = markdown.digest([Told()])
        gains, losses, promises = (text.index(part) for part in ("1.4 times as fast", "no faster", "**Promises**"))
        assert text.index(markdown.HEADINGS["gain"]) < gains < text.index(markdown.HEADINGS["loss"]) < losses < promises
        assert markdown.HEADINGS["limit"] not in text  # nothing was found
        assert "1 of 2 are kept" in text
        missed, kept = (line for line in text.splitlines() if line.startswith(("| **missed**", "| kept")))
        assert "| at most 2 s | 2.4 s |" in missed
        assert "| at least 1 | 1.1 |" in kept

    def test_without_findings_it_says_so(self) -> None:
        assert markdown.digest([]) == "Nothing has been recorded yet.\n"


class Told:
    """A record with something to say."""

    title = summary = "none"
    table: Table = ([], [])

    @property
    def run(self) -> Run:
        raise NotImplementedError

    @property
    def findings(self) -> tuple[Finding, ...]:
        return Finding("loss", "AST: no faster."), Finding("gain", "HuBERT: 1.4 times as fast.")

    @property
    def promises(self) -> tuple[Promise, ...]:
        return Promise("a", "at least 1", "1.1", kept=True), Promise("ready", "at most 2 s", "2.4 s", kept=False)
