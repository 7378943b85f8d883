"""What a check has found, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem", "not here"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. A warning costs something, a problem keeps something from working."""

    name: str
    status: Status
    found: str
    mend: str = ""  # what to do next; every problem says it


def ok(name: str, found: str) -> Finding:
    """Return that `name` is as it should be."""
    return Finding(name, "ok", found)


def warning(name: str, found: str, mend: str) -> Finding:
    """Return that `name` works, but not as well as it could."""
    return Finding(name, "warning", found, mend)


def problem(name: str, found: str, mend: str) -> Finding:
    """Return that `name` does not work."""
    return Finding(name, "problem", found, mend)


def absent(name: str, found: str, mend: str = "") -> Finding:
    """Return that this host does not have `name`, and need not."""
    return Finding(name, "not here", found, mend)
