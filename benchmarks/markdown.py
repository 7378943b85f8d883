"""Records as Markdown: a section of each, and the summary of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from benchmarks.base import Detailed, Run, Table
from benchmarks.charts.chart import Charted
from benchmarks.findings import Kind, Promising, Telling

LONG = 12  # rows of a table that is folded
HEADINGS: dict[Kind, str] = {
    "gain": "What Sonant gains",
    "loss": "Where it does not",
    "limit": "How far it is from what the hardware can do",
}


class Result(Protocol):
    """A record, as a page shows it."""

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def summary(self) -> str: ...  # noqa: D102

    @property
    def table(self) -> Table: ...  # noqa: D102

    @property
    def run(self) -> Run: ...  # noqa: D102


def section(result: Result, pictures: str = "pictures") -> str:
    """Return one record; `pictures` is the way from the page to their folder."""
    table, rows = _table(result.table), len(result.table[1])
    if rows > LONG:
        table = _folded(f"Table of {rows} rows", table)
    more = result.tables if isinstance(result, Detailed) else ()
    folded = [_folded(what, _table(each)) for what, each in more]
    charts = result.charts if isinstance(result, Charted) else ()
    shown = [f"![{chart.alt}]({pictures}/{chart.name}.svg)" for chart in charts]
    parts = [f"### {result.title}", result.summary, *shown, table, *folded, provenance(result.run)]
    return "\n\n".join(parts) + "\n"


def provenance(run: Run) -> str:
    """Say where and with what a record was taken."""
    machine = run.machine
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    return (
        f"{machine.cpu}, {machine.usable_cores} of {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}, {' '.join(machine.flags)}; load {machine.load:g} before the run. {versions}. "
        f"Commit {run.commit or 'unknown'}, seed {run.seed}, {run.date}."
    )


def digest(results: Sequence[Result]) -> str:
    """Return what the records find together: gains, the lack of them, the hardware's limit and promises."""
    findings = [finding for each in results if isinstance(each, Telling) for finding in each.findings]
    parts = []
    for kind, heading in HEADINGS.items():
        if found := [finding.text for finding in findings if finding.kind == kind]:
            parts.append(f"**{heading}**\n\n" + "\n".join(f"- {text}" for text in found))
    promises = [promise for each in results if isinstance(each, Promising) for promise in each.promises]
    if promises:
        kept = sum(promise.kept for promise in promises)
        rows = [
            ["kept" if promise.kept else "**missed**", promise.what, promise.promised, promise.found]
            for promise in sorted(promises, key=lambda promise: promise.kept)
        ]
        table = _lines([["", "promise", "promised", "measured"], ["---"] * 4, *rows])
        parts.append(f"**Promises**: {kept} of {len(promises)} are kept.\n\n{table}")
    return "\n\n".join(parts or ["Nothing has been recorded yet."]) + "\n"


def _table(table: Table) -> str:
    header, rows = table
    return _lines([header, ["---:"] * len(header), *rows])


def _folded(what: str, content: str) -> str:
    return f"<details><summary>{what}</summary>\n\n{content}\n\n</details>"


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
