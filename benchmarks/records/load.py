"""What `sonant bench load` writes."""

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
GOODPUT_SHARE = 0.9  # of the capacity, under overload
REFUSED_MS = 50.0  # p99 of what is refused
GROWTH = 0.03  # of resident memory


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


class Overload(Model):
    """An open loop beyond the capacity."""

    benchmark: Literal["load-overload"] = "load-overload"
    run: Run
    lengths: tuple[float, float]
    factor: float
    seconds: float
    deadline: float
    capacity: float  # seconds of audio for each second, in a closed loop just before
    offered: float  # the same
    goodput: float  # the same, of what was answered within its deadline
    requests: int
    statuses: dict[int, int]
    admitted: Latencies
    refused: Latencies
    idle_before: Latencies
    idle_after: Latencies
    load: Load

    @property
    def title(self) -> str:
        """A heading."""
        return f"Overload: {self.run.model}, {self.factor:g} x its capacity for {self.seconds:g} s"

    @property
    def table(self) -> Table:
        """What was offered and what came of it."""
        rows = [
            ["alone, before", "", "", *self.idle_before.cells],
            ["answered", str(self.statuses.get(200, 0)), f"{self.goodput:.1f}", *self.admitted.cells],
            ["refused (429)", str(self.statuses.get(429, 0)), "", *self.refused.cells],
            ["anything else", str(self.others), "", "", "", ""],
            ["alone, afterwards", "", "", *self.idle_after.cells],
        ]
        return ["", "requests", "audio s/s within the deadline", "p50 ms", "p95", "p99"], rows

    @property
    def others(self) -> int:
        """Requests that were neither answered nor refused."""
        return sum(count for status, count in self.statuses.items() if status not in (200, 429))

    @property
    def summary(self) -> str:
        """The figures that count."""
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"Clips of {self.lengths[0]:g} to {self.lengths[1]:g} s at random times, each with a deadline of "
            f"{self.deadline:g} s. In a closed loop the capacity is {self.capacity:.1f} s of audio for each second; "
            f"offered were {self.offered:.1f}, answered within the deadline {self.goodput:.1f}: "
            f"{self.goodput / self.capacity:.3f} of the capacity (promised: {GOODPUT_SHARE:g}). Statuses: {statuses}. "
            f"Promised is also a p99 of {REFUSED_MS:g} ms of what is refused, and no other error. Latency counts from "
            f"when a request was to be sent. {_cores(self.load)}"
        )

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What is left of the capacity, and how soon the rest is refused."""
        beyond = f"{self.run.model} at {self.factor:g} x its capacity"
        share = self.goodput / self.capacity
        return (
            Promise(
                f"{beyond}: goodput over the capacity",
                f"at least {GOODPUT_SHARE:g}x",
                f"{share:.3f}x",
                share >= GOODPUT_SHARE,
            ),
            Promise(
                f"{beyond}: p99 of what is refused",
                f"at most {REFUSED_MS:g} ms",
                f"{self.refused.p99_ms:.1f} ms",
                self.refused.p99_ms <= REFUSED_MS,
            ),
        )


class SoakMark(Model):
    """What the server has after so many requests."""

    requests: int
    resident_mib: float
    descriptors: int
    threads: int


class Soak(Model):
    """Many requests of all kinds."""

    benchmark: Literal["load-soak"] = "load-soak"
    run: Run
    connections: int
    settled: int  # requests after which the memory is compared
    seconds: float
    statuses: dict[int, int]
    latency: Latencies
    marks: tuple[SoakMark, ...]
    load: Load

    @property
    def title(self) -> str:
        """A heading."""
        return f"Soak: {sum(self.statuses.values()):,} requests"

    @property
    def growth(self) -> float:
        """Of resident memory since it settled, relative: the mean of the last marks over that of the first."""
        resident = [mark.resident_mib for mark in self.marks if mark.requests >= self.settled]
        several = max(1, len(resident) // 4)  # one mark may fall on a batch that is larger than others
        return float(np.mean(resident[-several:]) / np.mean(resident[:several])) - 1.0

    @property
    def table(self) -> Table:
        """A row for each mark."""
        rows = [
            [f"{mark.requests:,}", f"{mark.resident_mib:.1f}", str(mark.descriptors), str(mark.threads)]
            for mark in self.marks
        ]
        return ["requests", "resident MiB", "descriptors", "threads"], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.connections} connections, all tasks and formats of {self.run.model}, clips that cannot be read and "
            f"clients that leave among them; {self.seconds:.0f} s. After the first {self.settled:,} requests resident "
            f"memory grew by {100 * self.growth:.1f} % (promised: less than {100 * GROWTH:g} %). Statuses: {statuses}. "
            f"p50 {self.latency.p50_ms:.1f} ms, p99 {self.latency.p99_ms:.1f} ms. {_cores(self.load)}"
        )

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What stays of many requests."""
        return (
            Promise(
                f"memory after {sum(self.statuses.values()):,} requests, over that after {self.settled:,}",
                f"less than {100 * GROWTH:g} % more",
                f"{100 * self.growth:+.1f} %",
                self.growth < GROWTH,
            ),
        )


def threads(run: Run) -> str:
    """Say how many threads an engine had."""
    return f"{run.threads} thread{'s' * (run.threads > 1)}"


def _cores(load: Load) -> str:
    return (
        f"The server used {load.server_cores:.2f} cores, the load generator on the same machine "
        f"{load.generator_cores:.2f}."
    )
