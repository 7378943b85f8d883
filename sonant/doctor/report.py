"""The report: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from sonant.doctor.examination import Section, is_sound
from sonant.doctor.finding import Finding, Status

# Of the column of names, at most: of 80 columns as many are left to what was found.
NAME_WIDTH = 32
STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "problem": "bold red", "not here": "dim"}


def as_json(sections: Sequence[Section]) -> str:
    """Return everything that was found, as one object."""
    checks = [{"subject": section.subject, **asdict(one)} for section in sections for one in section.findings]
    return json.dumps({"sound": is_sound(sections), "checks": checks}, indent=1, ensure_ascii=False)


def as_text(sections: Sequence[Section]) -> str:
    """Return the report without a table, where there is no rich: what is missing is what a doctor is asked about."""
    parts = [line for section in sections for line in ("", section.subject, *map(_plain, section.findings))]
    return "\n".join(parts)


def print_tables(sections: Sequence[Section]) -> None:
    """Print a table for each subject: a line for each check, below it what to do. Raises ImportError without rich."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for section in sections:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True, min_width=max(map(len, STYLES)))
        table.add_column(max_width=NAME_WIDTH, overflow="fold")
        table.add_column(overflow="fold", ratio=1)
        for finding in section.findings:
            found = Text(finding.found)  # no markup, which a message may look like
            if finding.mend:
                found.append(f"\n-> {finding.mend}", style="" if finding.status == "not here" else "bold")
            table.add_row(Text(finding.status, STYLES[finding.status]), Text(finding.name), found)
        console.print("", Text(section.subject, "bold"), table, sep="\n")


def _plain(finding: Finding) -> str:
    mend = f"\n          -> {finding.mend}" if finding.mend else ""
    return f"{finding.status:9} {finding.name}: {finding.found}{mend}"


def summary(sections: Sequence[Section]) -> str:
    """Return how many problems and warnings there are."""
    statuses = [finding.status for section in sections for finding in section.findings]
    problems, warnings = statuses.count("problem"), statuses.count("warning")
    return f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}"


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
