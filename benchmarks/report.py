"""The tables of the READMEs, written from the recorded results: `sonant bench report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from benchmarks import record
from benchmarks.base import Run
from benchmarks.machine import ROOT
from benchmarks.record import Record
from benchmarks.records.exports import Exports, Families
from benchmarks.records.gpu import GpuLoad, GpuParity, GpuShapes, GpuSpeed
from benchmarks.records.load import Overhead, Overload, Soak, Throughput
from benchmarks.records.long_audio import LongRecording, WindowEffect
from benchmarks.records.offline import Offline
from benchmarks.records.policy import Policy
from benchmarks.records.precision import Precision, Precisions
from benchmarks.records.speed import Latency, Layers
from benchmarks.records.timestamps import Timestamps

Section = Record | Precisions

RESULTS = Path("benchmarks", "results")
# Where the table of each kind of result stands.
PAGES: dict[Path, tuple[type[Section], ...]] = {
    Path("README.md"): (Families, Precisions),
    Path("benchmarks", "README.md"): (
        Throughput,
        Overhead,
        Overload,
        Soak,
        LongRecording,
        WindowEffect,
        Offline,
        Policy,
        Timestamps,
        Latency,
        Layers,
        Precision,
        GpuParity,
        GpuSpeed,
        GpuShapes,
        GpuLoad,
        Exports,
    ),
}
BEGIN, END = "<!-- results: written by `sonant bench report` -->", "<!-- results: end -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where --check finds the tables out of date."""
    parser = argparse.ArgumentParser(
        prog="sonant bench report", description="Write the recorded results into the READMEs."
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the tables are out of date")
    arguments = parser.parse_args(argv)
    try:
        records = with_digests(read_all(arguments.root / RESULTS))
        pages = {arguments.root / page: kinds for page, kinds in PAGES.items()}
        old = {page: page.read_text(encoding="utf-8") for page in pages}
        new = {
            page: insert(page, old[page], [record for record in records if isinstance(record, kinds)])
            for page, kinds in pages.items()
        }
    except ValueError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    stale = [page for page in pages if new[page] != old[page]]
    for page in stale:
        if arguments.check:
            print(f"{page} is out of date: run `sonant bench report`", file=sys.stderr)
        else:
            page.write_text(new[page], encoding="utf-8")
            print(f"Wrote {page}", file=sys.stderr)
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


def insert(page: Path, text: str, records: Iterable[Section]) -> str:
    """Return `text`, that of `page`, with the sections of `records` between the markers; ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the markers are missing: put {BEGIN} and {END} where the tables belong")
    sections = [section(each) for each in records] or ["Nothing has been recorded yet.\n"]
    return before + begin + "\n\n" + "\n".join(sections) + "\n" + end + after


def section(result: Section) -> str:
    """Return one record as Markdown."""
    header, rows = result.table
    lines = [header, ["---:"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {result.title}\n\n{result.summary}\n\n{table}\n\n{provenance(result.run)}\n"


def provenance(run: Run) -> str:
    """Say where and with what a record was taken."""
    machine = run.machine
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    return (
        f"{machine.cpu}, {machine.usable_cores} of {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}, {' '.join(machine.flags)}; load {machine.load:g} before the run. {versions}. "
        f"Commit {run.commit or 'unknown'}, seed {run.seed}, {run.date}."
    )
