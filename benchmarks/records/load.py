"""What `sonant bench load throughput` and `overhead` write: a server beside its engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.base import Model, Run, Table
from benchmarks.findings import Promise
from benchmarks.stats import Estimate

# What is promised of a server: its share of what the engine reaches offline, of a base-size engine and of a small one.
BASE_SIZE = 50_000_000  # parameters, from which on an engine counts as one
BASE_SHARE, SMALL_SHARE = 0.95, 0.8
ADDED_MS = 3.0  # by HTTP and scheduling to one clip


class Latencies(Model):
    """Percentiles, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float] | NDArray[np.float64]) -> Self:
        """Summarise what was measured, in seconds; not a number where there is nothing."""
        p50, p95, p99 = np.percentile(seconds, [50.0, 95.0, 99.0]) * 1e3 if len(seconds) else [float("nan")] * 3
        return cls(p50_ms=float(p50), p95_ms=float(p95), p99_ms=float(p99))

    @property
    def cells(self) -> list[str]:
        """For a table."""
        return [f"{value:.1f}" for value in (self.p50_ms, self.p95_ms, self.p99_ms)]


class Load(Model):
    """Processor time while the server was asked, in cores: seconds of it for each second."""

    server_cores: float
    generator_cores: float  # which shares the machine with the server


class ThroughputCell(Model):
    """One engine."""

    model: str
    parameters: int
    clips: int
    audio_seconds: float
    rounds: int
    server: float  # seconds of audio for each second, as all of these
    alone: float  # offline, one clip after the other
    batched: float  # offline, sorted by length into batches
    ratio: Estimate  # server / the faster of the two
    latency: Latencies
    load: Load

    @property
    def promise(self) -> float:
        """The least ratio."""
        return BASE_SHARE if self.parameters >= BASE_SIZE else SMALL_SHARE


class Throughput(Model):
    """A server in a closed loop against the same engine offline."""

    benchmark: Literal["load-throughput"] = "load-throughput"
    run: Run
    connections: int
    lengths: tuple[float, float]
    batch_seconds: float
    answer_format: str
    calibrated: bool = False  # by `sonant calibrate`, before they were served
    cells: tuple[ThroughputCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Throughput of the server, {threads(self.run)}"

    @property
    def table(self) -> Table:
        """A row for each engine."""
        header = ["engine", "M params", "clips", "rounds", "server", "alone", "batched", "ratio", "95 % interval"]
        rows = [
            [
                *(cell.model, f"{cell.parameters / 1e6:.3g}", str(cell.clips), str(cell.rounds)),
                *(f"{rate:.1f}" for rate in (cell.server, cell.alone, cell.batched)),
                *(f"{cell.ratio.value:.3f}", f"{cell.ratio.low:.3f} to {cell.ratio.high:.3f}"),
                *cell.latency.cells,
                *(f"{cores:.2f}" for cores in (cell.load.server_cores, cell.load.generator_cores)),
            ]
            for cell in self.cells
        ]
        return [*header, "p50 ms", "p95", "p99", "cores", "generator"], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        missed = [cell.model for cell in self.cells if cell.ratio.value < cell.promise]
        return (
            f"Clips of {self.lengths[0]:g} to {self.lengths[1]:g} s, {self.connections} connections in a closed loop, "
            f"answers as {self.answer_format}, engines {'' if self.calibrated else 'not '}calibrated. "
            "Server, alone and batched are seconds of audio for each second; offline "
            f"the same engine runs the same clips in this process, alone, and by length in batches of "
            f"{self.batch_seconds:g} s. The ratio is that of the server over the faster one offline; promised is at "
            f"least {BASE_SHARE:g} from {BASE_SIZE // 1_000_000} M parameters on and {SMALL_SHARE:g} below: "
            f"{'reached' if not missed else 'missed by ' + ', '.join(missed)}. Cores are those that the server "
            "kept busy while it was asked, and those of the load generator beside it."
        )

    @property
    def promises(self) -> tuple[Promise, ...]:
        """How near the server comes to its engine."""
        return tuple(
            Promise(
                f"{cell.model}: throughput of the server, over the engine alone",
                f"at least {cell.promise:g}x",
                str(cell.ratio),
                cell.ratio.value >= cell.promise,
            )
            for cell in self.cells
        )


class OverheadCell(Model):
    """One engine, asked in one format."""

    model: str
    answer_format: str
    requests: int
    latency: Latencies
    inference: Latencies
    decoding: Latencies
    added: Latencies  # latency - inference, request by request
    serving: Latencies  # added - decoding, likewise


class Overhead(Model):
    """What HTTP, decoding and scheduling add to a single clip."""

    benchmark: Literal["load-overhead"] = "load-overhead"
    run: Run
    seconds: float
    cells: tuple[OverheadCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Overhead of the server, one clip of {self.seconds:g} s at a time"

    @property
    def table(self) -> Table:
        """A row for each engine and format."""
        parts = ("latency", "engine", "decoding", "added", "HTTP and scheduling")
        header = ["engine", "answer", "requests", *(name for part in parts for name in (f"{part} p50 ms", "p95"))]
        rows = [
            [cell.model, cell.answer_format, str(cell.requests)]
            + [
                f"{value:.2f}"
                for part in (cell.latency, cell.inference, cell.decoding, cell.added, cell.serving)
                for value in (part.p50_ms, part.p95_ms)
            ]
            for cell in self.cells
        ]
        return header, rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        added = max((cell.added.p50_ms for cell in self.binary), default=float("nan"))
        serving = max((cell.serving.p50_ms for cell in self.binary), default=float("nan"))
        return (
            "Added is the latency that the client sees less the time in the engine, request by request: reading, "
            "decoding, queueing, encoding the answer and sending it. HTTP and scheduling are that without the decoding "
            "of the file, with its way to a thread and back. Largest medians with base64 or npy: added "
            f"{added:.2f} ms, HTTP and scheduling {serving:.2f} ms; promised of the latter is at most {ADDED_MS:g} ms."
        )

    @property
    def binary(self) -> list[OverheadCell]:
        """Those in which numbers are no text."""
        return [cell for cell in self.cells if cell.answer_format in ("base64", "npy")]

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What is added to a clip at the most."""
        if not self.binary:
            return ()
        worst = max(self.binary, key=lambda cell: cell.serving.p50_ms)
        return (
            Promise(
                f"HTTP and scheduling, of one clip of {self.seconds:g} s, by {worst.model} as {worst.answer_format}",
                f"at most {ADDED_MS:g} ms",
                f"{worst.serving.p50_ms:.2f} ms",
                worst.serving.p50_ms <= ADDED_MS,
            ),
        )


def threads(run: Run) -> str:
    """Say how many threads an engine had."""
    return f"{run.threads} thread{'s' * (run.threads > 1)}"
