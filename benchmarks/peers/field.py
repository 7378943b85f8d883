"""Who is compared on one model, where they run, and on what clips."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine, models
from benchmarks.engines import subjects
from benchmarks.engines.subjects import Subject
from benchmarks.load import lengths
from benchmarks.peers import environments, roster
from benchmarks.peers.environments import Environment, EnvironmentFailedError
from benchmarks.peers.process import Process
from benchmarks.peers.race import Case
from benchmarks.peers.roster import FORMS, OWN, PEERS, Entrant
from benchmarks.records.peers import PRECISIONS, TRUTH, Contestant, ModelPeers
from engines.manifest import Manifest

MIXED = "mixed"  # among lengths: clips as long as utterances are
CALIBRATION = "calibration.npz"
CALIBRATION_CLIPS, CALIBRATION_SECONDS = 4, 5.0


@dataclass(frozen=True)
class Field:
    """All who are compared on one model, and where they run."""

    subject: Subject
    entrants: tuple[Entrant, ...]
    environments: Mapping[str, Environment]
    left_out: Mapping[str, str]  # by name, why
    work: Path  # what they export, convert and compile is kept here
    key: str

    def start(self, entrant: Entrant, threads: int) -> Process:
        """Start a contestant's process."""
        where = self.environments[entrant.environment]
        work = self.work / entrant.environment
        work.mkdir(parents=True, exist_ok=True)
        given: dict[str, object] = {"threads": threads, "work": str(work), "calibration": str(self.work / CALIBRATION)}
        if entrant.is_ours:
            given["engine"] = str(self.subject.made.usable[str(entrant.options["form"])][0])
        else:
            assert self.subject.checkpoint is not None  # noqa: S101  # a recipe has one
            given["checkpoint"] = str(self.subject.checkpoint.folder)
        log = work / f"{entrant.name.replace('/', '-')}.log"
        compiled = {"TORCHINDUCTOR_CACHE_DIR": str(work / "compiled")}
        return Process(where, entrant.script, {**given, **entrant.options}, log, compiled)


def gather(model: str, arguments: argparse.Namespace, progress: Callable[[str], None]) -> Field:
    """Make what is missing of a model's checkpoint, engines and environments.

    Raises ExportError, EngineError, or ValueError where not even transformers' environment can be made.
    """
    subject = subjects.prepare(model, arguments, progress)
    flags = machine.describe().flags
    peers = [PEERS[name] for name in arguments.peers]
    entrants = (*peers, *(roster.ours(form) for form in FORMS if form in subject.made.usable))
    reasons = {form: reason for form, (reason, _) in subject.made.left_out.items()}
    left_out = {f"Sonant {form}": reasons[form] for form in FORMS if form in reasons}
    left_out |= {one.name: reason for one in peers if (reason := one.lacks(flags))}
    found = {OWN: environments.own()}
    problems: dict[str, str] = {}
    for name in dict.fromkeys(one.environment for one in peers if one.name not in left_out):
        try:
            found[name] = found[OWN] if arguments.quick else environments.make(name, arguments.cache, progress)
        except EnvironmentFailedError as problem:
            print(f"benchmark: {problem}", file=sys.stderr)
            problems[name] = str(problem)
    left_out |= {one.name: problems[one.environment] for one in peers if one.environment in problems}
    if TRUTH in left_out:
        raise ValueError(left_out[TRUTH])
    made_of = {
        "subject": subject.key,
        "scripts": _scripts(),
        "environments": {name: where.packages for name, where in found.items()},
        "entrants": [one.name for one in entrants],
        "settings": [arguments.batch, arguments.threads, arguments.seed],
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    work = arguments.cache / "peers" / "work" / f"{model}-{_work_key(subject, found)}"
    for old in work.parent.glob(f"{model}-*"):  # of other versions, a gigabyte each
        if old != work:
            shutil.rmtree(old, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    rate = subject.made.manifest.sample_rate
    np.savez(work / CALIBRATION, *models.clips(CALIBRATION_CLIPS, CALIBRATION_SECONDS, rate, arguments.seed + 1))
    return Field(subject, entrants, found, left_out, work, key)


def _scripts() -> str:
    """Return a hash of what the contestants run."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).with_name("scripts").glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def _work_key(subject: Subject, found: Mapping[str, Environment]) -> str:
    """Return what the peers' graphs follow from."""
    checkpoint = subject.checkpoint.sha256 if subject.checkpoint else ""
    made_of = [checkpoint, _scripts(), {name: one.packages for name, one in found.items() if name != OWN}]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


def begun(field: Field) -> ModelPeers:
    """Return a record without times."""
    contestants = []
    for one in field.entrants:
        where = field.environments.get(one.environment)
        contestants.append(
            Contestant(
                name=one.name,
                is_ours=one.is_ours,
                precision=one.precision,
                setup=one.setup,
                versions=where.versions(*one.packages) if where else {},
                reason=field.left_out.get(one.name, ""),
            )
        )
    known = {one.name for one in contestants}
    for name, reason in field.left_out.items():
        if name not in known:
            precision = next(each for each in PRECISIONS if name.endswith(each))
            contestants.append(
                Contestant(name=name, is_ours=True, precision=precision, setup="the engine", versions={}, reason=reason)
            )
    manifest = field.subject.made.manifest
    return ModelPeers(
        model=field.subject.name, parameters=manifest.parameters, key=field.key, contestants=tuple(contestants)
    )


def cases(arguments: argparse.Namespace, manifest: Manifest, folder: Path) -> list[Case]:
    """Write the clips of each cell to `folder`; those that are too long for the model are left out, or cut.

    Raises ValueError where a length is none, or none is left.
    """
    shortest, longest = manifest.seconds
    rate = manifest.sample_rate
    found = []
    for length in arguments.lengths:
        if length == MIXED:
            spoken = lengths.DISTRIBUTIONS["speech"]
            clips = lengths.clips(spoken, arguments.batch, rate, "noise", arguments.seed, shortest)
            clips = [clip[: int(longest * rate)] for clip in clips]
            label = f"{arguments.batch} mixed"
        elif shortest <= float(length) <= longest:
            clips = models.clips(1, float(length), rate, arguments.seed)
            label = f"{float(length):g} s"
        else:
            continue
        path = folder / f"{label.replace(' ', '-')}.npz"
        np.savez(path, *clips)
        found.append(Case(label, tuple(clips), path, sum(clip.size for clip in clips) / rate))
    if not found:
        raise ValueError(f"nothing to measure: the engine takes {shortest:g} to {longest:g} s")
    return found
