"""The engines that are asked, and the options that all scenarios share."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks import console, machine, models
from benchmarks.base import Run
from benchmarks.load.drive import Sample
from benchmarks.load.process import Server, serving
from benchmarks.machine import ROOT
from benchmarks.recipes import RECIPES
from engines.engine import Engine
from engines.manifest import Manifest
from engines.runtimes import RuntimeOptions
from sonant.terminal import steps

DEMO = tuple(f"demo/engines/{name}" for name in ("hubert-ctc-english", "sew-commands-english", "usm-spoken-words"))
QUICK = ("demo/engines/hubert-intent-english",)  # the smallest


@dataclass(frozen=True)
class Subject:
    """An engine."""

    name: str
    folder: Path
    manifest: Manifest

    def engine(self, threads: int) -> Engine:
        """Open it on the CPU."""
        return Engine(self.folder, options=RuntimeOptions("cpu", threads))


def add_options(parser: argparse.ArgumentParser, engines: Sequence[str]) -> None:
    """Add the options of every scenario; `engines` is the default of the positional argument."""
    parser.add_argument(
        "engines",
        nargs="*",
        metavar="ENGINE",
        default=engines,
        help=f"an engine's folder, or the name of a configuration of true size with random weights: "
        f"{', '.join(RECIPES)} (default: {' '.join(engines)})",
    )
    parser.add_argument("--threads", type=console.positive, default=1, help="inside one operation of an engine")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], type=setting, metavar="NAME=VALUE", help="of the server"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of when they are sent")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where checkpoints and engines stay")
    parser.add_argument("--output", type=Path, help="write the result as JSON, such as benchmarks/results/NAME.json")


def prepare(arguments: argparse.Namespace) -> tuple[list[Subject], machine.Machine]:
    """Open or make the engines, and describe the host before they load it. Raises EngineError or ExportError."""
    host = machine.describe()
    with steps() as progress:
        return [_subject(name, arguments.cache, progress) for name in arguments.engines], host


def _subject(name: str, cache: Path, progress: Callable[[str], None]) -> Subject:
    if name in RECIPES:
        made = models.prepare(name, None, (), cache, progress)
        return Subject(made.name, made.folder, made.manifest)
    folder = Path(name) if Path(name).is_dir() else ROOT / name
    return Subject(folder.name, folder, Manifest.read(folder))


def serve(
    subjects: Iterable[Subject], arguments: argparse.Namespace, settings: Mapping[str, str] = MappingProxyType({})
) -> AbstractContextManager[Server]:
    """Serve them with `settings` and those that were asked for."""
    # What is measured in the background would share the machine with what is measured here.
    settings = {"calibrate": "off"} | dict(settings) | dict(arguments.settings)
    return serving({subject.name: subject.folder for subject in subjects}, arguments.threads, settings)


def describe(subjects: Sequence[Subject], arguments: argparse.Namespace, host: machine.Machine) -> Run:
    """Describe the run."""
    parameters = sum(subject.manifest.parameters for subject in subjects)
    return console.describe_run(", ".join(subject.name for subject in subjects), parameters, arguments, host)


def statuses(samples: Iterable[Sample]) -> dict[int, int]:
    """Count the answers by status; 0 is a connection that broke."""
    return dict(sorted(Counter(sample.status for sample in samples).items()))


def check_all_answered(what: str, samples: Iterable[Sample]) -> None:
    """Raise ValueError unless every status is 200: what was not answered must not count as fast."""
    found: Mapping[int, int] = statuses(samples)
    if set(found) != {200}:
        raise ValueError(f"{what}: the statuses were {found}")


def setting(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
