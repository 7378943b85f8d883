"""What `sonant bench load overload` and `soak` write: a server that is asked too much, or for long."""

from __future__ import annotations

from typing import Literal

import numpy as np

from benchmarks.base import Model, Run, Table
from benchmarks.findings import Promise
from benchmarks.records.load import Latencies, Load

GOODPUT_SHARE = 0.9  # promised of the capacity, under overload
REFUSED_MS = 50.0  # p99 of what is refused
GROWTH = 0.03  # of resident memory


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


def _cores(load: Load) -> str:
    return (
        f"The server used {load.server_cores:.2f} cores, the load generator on the same machine "
        f"{load.generator_cores:.2f}."
    )
