"""All checks of all subjects, one after the other."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sonant.doctor import isolation
from sonant.doctor.finding import Finding, problem
from sonant.doctor.request import Request

# By the modules of this package, in the order in which one thing rests on the other.
SUBJECTS = ("host", "clock", "packages", "gpu", "libraries", "providers", "tensorrt", "decoders", "server", "engines")


@dataclass(frozen=True)
class Section:
    """What was found about one subject."""

    subject: str
    findings: tuple[Finding, ...]


def examine(
    request: Request, subjects: Sequence[str] = SUBJECTS, progress: Callable[[str], None] = lambda step: None
) -> Iterator[Section]:
    """Yield what is found about each of `subjects`. Nothing that a check does ends this process or keeps it waiting."""
    for subject in subjects:
        progress(f"Looking at {subject}")
        yield Section(subject, tuple(_findings(subject, request)))


def _findings(subject: str, request: Request) -> Iterator[Finding]:
    try:
        jobs = list(importlib.import_module(f"sonant.doctor.{subject}").jobs(request))
    except ImportError as error:  # of what every installation has, such as numpy
        yield problem(subject, f"it cannot be looked at: {error}", "pip install --force-reinstall 'sonant[serve]'")
        return
    for job in jobs:
        yield from isolation.run(subject, job)


def is_sound(sections: Sequence[Section]) -> bool:
    """Whether there is no problem."""
    return all(finding.status != "problem" for section in sections for finding in section.findings)
