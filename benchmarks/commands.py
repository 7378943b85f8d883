"""The benchmarks by name, as `sonant bench NAME` runs them from a checkout."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True)
class Command:
    """A benchmark: the module whose `main` it is, and what it tells."""

    module: str
    help: str

    @property
    def main(self) -> Callable[[Sequence[str]], int]:
        """What runs it: takes the arguments behind its name, returns the exit status."""
        return cast("Callable[[Sequence[str]], int]", importlib.import_module(self.module).main)


COMMANDS: Mapping[str, Command] = {
    "latency": Command("benchmarks.engines.latency", "engines by length and batch, against transformers"),
    "layers": Command("benchmarks.engines.layers", "what stopping after some layers saves"),
    "change": Command("benchmarks.engines.change", "what a change to the exporter gains: two exports of a checkpoint"),
    "precision": Command("benchmarks.engines.precision", "every precision and runtime of every model"),
    "export": Command("benchmarks.exports.true_size", "exports of true size: time, memory, size, error"),
    "startup": Command("benchmarks.startup.command", "from process start to the first answer, and idle memory"),
    "growth": Command("benchmarks.growth.command", "time and memory over length, batch, models and clients"),
    "headlines": Command("benchmarks.headlines", "what the families' papers say of speed, as ratios"),
    "peers": Command("benchmarks.peers.command", "what users would pick instead, on the same work"),
    "families": Command("benchmarks.exports.families", "every class of model, from checkpoint to HTTP"),
    "load": Command("benchmarks.load.command", "a real server under load"),
    "long-audio": Command("benchmarks.audio.long_audio", "hours of audio, and what windows do to the results"),
    "offline": Command("benchmarks.audio.offline", "files from the command line, against the engine alone"),
    "timestamps": Command("benchmarks.audio.timestamps", "times of words against the synthesizer's own"),
    "policy": Command("benchmarks.policy.budgets", "how batches form, in a simulated time"),
    "gpu": Command("benchmarks.gpu.command", "engines on a GPU"),
    "quick": Command("benchmarks.quick", "all of these on as little as possible, to see that they work"),
    "report": Command("benchmarks.report", "write tables and charts from the recorded results"),
}


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a benchmark; return its exit status."""
    return COMMANDS[name].main(arguments)
