"""The tables and charts of the READMEs, written from the recorded results: `sonant bench report`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from benchmarks import markdown, record
from benchmarks.charts.chart import Chart, Charted
from benchmarks.charts.draw import draw
from benchmarks.machine import ROOT
from benchmarks.record import Record
from benchmarks.records.change import Changes
from benchmarks.records.endurance import Overload, Soak
from benchmarks.records.exports import Exports, Families
from benchmarks.records.gpu import GpuLoad, GpuParity, GpuShapes, GpuSpeed
from benchmarks.records.growth import Growth
from benchmarks.records.headlines import Headlines
from benchmarks.records.latency import Latency
from benchmarks.records.load import Overhead, Throughput
from benchmarks.records.long_audio import LongRecording, WindowEffect
from benchmarks.records.offline import Offline
from benchmarks.records.peer_servers import PeerServers
from benchmarks.records.peers import PeerEngines
from benchmarks.records.policy import Policy
from benchmarks.records.precision import Precision, Precisions
from benchmarks.records.serving import ClosedLoop, OpenLoop
from benchmarks.records.speed import Layers
from benchmarks.records.startup import Startup
from benchmarks.records.timestamps import Timestamps

Section = Record | Precisions

RESULTS, PICTURES = Path("benchmarks", "results"), Path("benchmarks", "pictures")
# Where each kind of result stands, in this order.
PAGES: dict[Path, tuple[type[Section], ...]] = {
    Path("README.md"): (Families, Precisions),
    Path("benchmarks", "README.md"): (
        PeerEngines,
        PeerServers,
        Latency,
        Precision,
        Layers,
        Changes,
        ClosedLoop,
        OpenLoop,
        Throughput,
        Overhead,
        Overload,
        Soak,
        Offline,
        Policy,
        Growth,
        Startup,
        Exports,
        Headlines,
        LongRecording,
        WindowEffect,
        Timestamps,
        GpuParity,
        GpuSpeed,
        GpuShapes,
        GpuLoad,
    ),
}
BEGIN, END = "<!-- results: written by `sonant bench report` -->", "<!-- results: end -->"
# A page may have a place for the summary of its results too.
SUMMARY_BEGIN, SUMMARY_END = "<!-- summary: written by `sonant bench report` -->", "<!-- summary: end -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where --check finds something out of date."""
    parser = argparse.ArgumentParser(
        prog="sonant bench report", description="Write the recorded results into the READMEs, and draw their charts."
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is out of date")
    arguments = parser.parse_args(argv)
    try:
        records = with_digests(read_all(arguments.root / RESULTS))
        wanted = {**pages(arguments.root, records), **pictures(arguments.root, records)}
    except ValueError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    stale = [path for path, text in wanted.items() if text != (path.read_text("utf-8") if path.is_file() else None)]
    for path in stale:
        if arguments.check:
            print(f"{path} is out of date: run `sonant bench report`", file=sys.stderr)
        else:
            print(f"{'Wrote' if bring_up(path, wanted[path]) else 'Removed'} {path}", file=sys.stderr)
    return int(arguments.check and bool(stale))


def read_all(results: Path) -> list[Record]:
    """Return the records of a folder by file name. ValueError names a file that is none."""
    records = []
    for path in sorted(results.glob("*.json")):
        try:
            records.append(record.read(path))
        except ValidationError as error:
            raise ValueError(f"{path} is no result of a benchmark: {error.errors()[0]['msg']}") from None
    return records


def with_digests(records: Sequence[Record]) -> list[Section]:
    """Return the records, and what is made of several."""
    found = tuple(each for each in records if isinstance(each, Precision) and each.lengths)
    return [*records, *[Precisions(records=found)] * bool(found)]


def pages(root: Path, records: Sequence[Section]) -> dict[Path, str]:
    """Return the text of each page with its results."""
    written = {}
    for name, kinds in PAGES.items():
        page = root / name
        here = [each for kind in kinds for each in records if type(each) is kind]
        way = os.path.relpath(root / PICTURES, page.parent)
        sections = [markdown.section(each, way) for each in here] or ["Nothing has been recorded yet.\n"]
        text = between(page, page.read_text("utf-8"), (BEGIN, END), "\n".join(sections))
        if SUMMARY_BEGIN in text:
            text = between(page, text, (SUMMARY_BEGIN, SUMMARY_END), markdown.digest(here))
        written[page] = text
    return written


def pictures(root: Path, records: Sequence[Section]) -> dict[Path, str | None]:
    """Return the text of each picture; None for a file that is no chart of theirs.

    ValueError names a chart that two records have, or that shows nothing.
    """
    drawn: dict[Path, str | None] = {}
    for chart in charts(records):
        path = root / PICTURES / f"{chart.name}.svg"
        if path in drawn:
            raise ValueError(f"{path}: two results have a chart of this name")
        try:
            drawn[path] = draw(chart)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return drawn | {path: None for path in (root / PICTURES).glob("*.svg") if path not in drawn}


def charts(records: Iterable[Section]) -> Iterator[Chart]:
    """Yield the charts of what stands on a page."""
    shown = tuple(kind for kinds in PAGES.values() for kind in kinds)
    for each in records:
        if isinstance(each, shown) and isinstance(each, Charted):
            yield from each.charts


def between(page: Path, text: str, markers: tuple[str, str], content: str) -> str:
    """Return `text`, that of `page`, with `content` between its markers; ValueError without them."""
    before, begin, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"{page}: the markers are missing: put {' and '.join(markers)} where it belongs")
    return f"{before}{begin}\n\n{content}\n{end}{after}"


def bring_up(path: Path, text: str | None) -> bool:
    """Write a file, or remove it; return whether it is there."""
    if text is None:
        path.unlink()
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True


section = markdown.section
