from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from benchmarks.charts import scales, svg
from benchmarks.charts.chart import Bar, Bars, Chart, Lines, Panel, Series, file_name
from benchmarks.charts.draw import draw

SVG = "{http://www.w3.org/2000/svg}"
LINES = Lines(
    "two-lines",
    "Time & memory",
    "How long <both> take.",
    (
        Panel(
            "Alone",
            "clips",
            "seconds",
            (
                Series("ours", (1, 10, 100), (0.1, 1, 10), (0.09, 0.9, 9), (0.2, 1.1, 11)),
                Series("theirs", (1, 10, 100), (0.2, math.nan, 30)),
            ),
            log_x=True,
            log_y=True,
        ),
        Panel("Together", "clips", "MiB", (Series("theirs", (1, 10, 100), (0, 5, 8)),)),
    ),
)
BARS = Bars(
    "some-bars",
    "How fast",
    "Ratios.",
    "times as fast",
    (
        Bar("Sonant", 1.5, 1.4, 1.6, "hubert"),
        Bar("a peer with a name that does not fit into one line of a narrow picture", 0.9, group="hubert"),
        Bar("one that fails", math.nan, group="sew"),
    ),
    1.0,
)


def drawn(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(draw(chart))  # noqa: S314  # it is our own


def words(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("chart", [LINES, BARS])
def test_a_picture_says_what_it_shows(chart: Chart) -> None:
    root = drawn(chart)
    assert root.findtext(f"{SVG}title") == chart.title
    assert root.findtext(f"{SVG}desc") == chart.alt
    assert root.get("role") == "img"
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")
    assert draw(chart) == draw(chart)


@pytest.mark.parametrize("chart", [LINES, BARS])
def test_nothing_stands_outside(chart: Chart) -> None:
    root = drawn(chart)
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    assert width <= 720
    for element in root.iter():
        for name, end in (("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height), ("y2", height)):
            assert 0 <= float(element.get(name, "0")) <= end
    sizes = {"title": svg.TITLE, "small": svg.SMALL, "strong": svg.BOLD * svg.TEXT, "": svg.TEXT}
    for text in root.iter(f"{SVG}text"):
        assert text.text
        wide = svg.width_of(text.text, sizes[text.get("class", "")])
        begin = (
            float(text.attrib["x"]) - {"start": 0, "middle": wide / 2, "end": wide}[text.get("text-anchor", "start")]
        )
        assert begin >= 0
        assert begin + wide <= width


def test_every_line_has_its_points_and_its_name() -> None:
    root = drawn(LINES)
    groups = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}polyline") is not None]
    assert [group.findtext(f"{SVG}title") for group in groups] == ["ours", "theirs", "theirs"]
    points = [group.find(f"{SVG}polyline").attrib["points"].split() for group in groups]  # type: ignore[union-attr]
    assert [len(each) for each in points] == [3, 2, 3]  # what is not known has no place
    assert len({group.attrib["class"] for group in groups}) == 2  # a line has its colour in both panels
    ours = [tuple(map(float, point.split(","))) for point in points[0]]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(ours)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2)  # a power of ten each, on both axes
    assert len(groups[0].findall(f"{SVG}line")) == 3  # intervals
    assert words(root).count("theirs") == 2  # the panels have different lines: a legend each
    assert {"Alone", "Together", "clips", "seconds", "MiB", "Time & memory"} <= set(words(root))


def test_panels_with_the_same_lines_share_a_legend() -> None:
    root = drawn(replace(LINES, panels=LINES.panels[:1] * 2))
    assert words(root).count("theirs") == 1


def test_more_lines_than_colours_are_dashed() -> None:
    lines = tuple(Series(str(index), (1, 2), (index, index + 1)) for index in range(svg.COLOURS + 1))
    root = drawn(replace(LINES, panels=(Panel("", "x", "y", lines),)))
    kinds = [line.attrib["class"] for line in root.iter(f"{SVG}polyline")]
    assert kinds == ["line"] * svg.COLOURS + ["line again"]


def test_every_bar_has_its_length_and_its_name() -> None:
    root = drawn(BARS)
    first, second = root.iter(f"{SVG}rect")
    assert float(first.attrib["width"]) / float(second.attrib["width"]) == pytest.approx(1.5 / 0.9, rel=0.01)
    classes = [group.get("class") for group in root.iter(f"{SVG}g") if group.get("class")]
    assert classes == ["s0", "other", "other"]  # ours stands out
    reference = {line.attrib["x1"] for line in root.iter(f"{SVG}line") if line.get("class") == "reference"}
    assert len(reference) == 1
    found = words(root)
    assert {"hubert", "sew", "Sonant", "1.5 (1.4 to 1.6)", "one that fails", "none", "times as fast"} <= set(found)
    assert BARS.rows[1].label in " ".join(found)


def test_colours_differ_from_the_background() -> None:
    def brightness(colour: str) -> float:
        parts = [int(part, 16) / 255 for part in re.findall("..", colour[1:])]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))

    assert min(1.05 / (brightness(colour) + 0.05) for colour in svg.LIGHT) > 4.5
    assert min((brightness(colour) + 0.05) / (brightness("#0d1117") + 0.05) for colour in svg.DARK) > 4.5


@pytest.mark.parametrize(
    ("values", "log", "ticks"),
    [
        ((3.0, 41.0), False, (0, 10, 20, 30, 40, 50)),
        ((-0.2, 0.4), False, (-0.2, 0, 0.2, 0.4)),
        ((0.0,), False, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        ((0.3, 7.0), True, (0.2, 0.5, 1, 2, 5, 10)),
        ((0.3, 7000.0), True, (1, 10, 100, 1000, 10000)),
    ],
)
def test_ticks(values: tuple[float, ...], log: bool, ticks: tuple[float, ...]) -> None:
    axis = scales.scale(values, log=log)
    assert axis.ticks == pytest.approx(ticks)
    assert all(0 <= axis.place(value) <= 1 for value in values)


def test_ticks_at_the_values_that_were_measured() -> None:
    assert scales.at([1, 2, 4, 8, 1], log=True).ticks == (1, 2, 4, 8)
    assert scales.at([1, 1.01, 10], log=True).ticks == (1.01, 10)  # no label over another


@pytest.mark.parametrize(("value", "text"), [(0.05, "0.05"), (512, "512"), (20_000, "20k"), (3e6, "3M")])
def test_labels_of_ticks(value: float, text: str) -> None:
    assert scales.label(value) == text


def test_what_is_no_chart_is_refused() -> None:
    with pytest.raises(ValueError, match="without a value"):
        draw(replace(LINES, panels=(Panel("", "x", "y", (Series("a", (1,), (math.nan,)),)),)))
    with pytest.raises(ValueError, match="as x"):
        Series("a", (1, 2), (1,))
    with pytest.raises(ValueError, match="two ends"):
        Series("a", (1,), (1,), low=(1,))
    with pytest.raises(ValueError, match="a name is of"):
        replace(BARS, name="../other")
    with pytest.raises(ValueError, match="cannot see"):
        replace(BARS, alt="")


def test_names_of_files() -> None:
    assert file_name("growth", "HuBERT base, 10 s") == "growth-hubert-base-10-s"
