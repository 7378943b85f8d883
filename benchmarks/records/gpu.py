"""What `sonant bench gpu` writes."""

from __future__ import annotations

from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.records.load import Latencies
from benchmarks.stats import Timing


class Device(Model):
    """Where it was measured."""

    name: str  # of the GPU, or of the processor in a dry run
    memory_gib: float
    cuda: str | None  # of torch
    providers: tuple[str, ...]  # of ONNX Runtime

    def __str__(self) -> str:
        return f"{self.name}, {self.memory_gib:.0f} GiB" + (f", CUDA {self.cuda}" if self.cuda else " (a dry run)")


class ParityCell(Model):
    """One form of one family's engine."""

    family: str
    architecture: str
    form: str
    golden: float  # error on the golden clips, over all graphs, as replayed at load
    on_cpu: float  # of clips alone, against transformers in fp32 on the CPU
    on_device: float  # of their embeddings, against transformers in fp32 on the device, TF32 off
    batch: float  # of the same clips in a batch with NaN in the padding, against each alone
    equal_rows: float  # the largest difference between rows of the same clip in one batch
    bound: float  # of this precision
    elsewhere: int  # nodes of the graph that do not run on the device
    failure: str = ""  # why it could not be compared; its errors are infinite then

    @property
    def ok(self) -> bool:
        """Whether all errors are within the bound; NaN is not."""
        return all(each <= self.bound for each in (self.golden, self.on_cpu, self.on_device, self.batch))


class GpuParity(Model):
    """Every form of every family against torch."""

    benchmark: Literal["gpu-parity"] = "gpu-parity"
    run: Run
    device: Device
    cells: tuple[ParityCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Parity on a GPU: {self.device}"

    @property
    def table(self) -> Table:
        """A row for each form."""
        header = ["family", "form", "golden", "torch, CPU", "torch, GPU", "in a batch", "equal rows", "bound", "nodes"]
        rows = [
            [
                cell.architecture,
                cell.form,
                *(f"{each:.1e}" for each in (cell.golden, cell.on_cpu, cell.on_device, cell.batch, cell.equal_rows)),
                f"{cell.bound:.0e}",
                str(cell.elsewhere),
            ]
            for cell in self.cells
        ]
        return [*header[:-1], "nodes elsewhere"], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        bad = [f"{cell.architecture} {cell.form} {cell.failure}".rstrip() for cell in self.cells if not cell.ok]
        return (
            "Errors of every output of clips of several lengths, the embeddings alone against torch on the device. "
            f"{len(self.cells) - len(bad)} of {len(self.cells)} within bounds"
            + (f"; not so: {'; '.join(bad)}." if bad else ".")
        )


class SpeedCell(Model):
    """One contestant on batches of one size."""

    contestant: str
    seconds: float  # of each clip
    batch: int
    first_ms: float  # the first run of this shape
    time: Timing
    rtfx: float  # seconds of audio for each second
    share: float  # of the matrix rate of its precision
    error: float  # of the embeddings, against the fp32 graph


class GpuSpeed(Model):
    """An engine's forms against torch, batch x length."""

    benchmark: Literal["gpu-speed"] = "gpu-speed"
    run: Run
    device: Device
    matrix_rates: dict[str, float]  # FLOP/s of large products, by precision
    refused: dict[str, str]  # contestants that could not run, and why
    cells: tuple[SpeedCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Speed on a GPU: {self.run.model} ({self.run.parameters / 1e6:.3g} M parameters), {self.device}"

    @property
    def table(self) -> Table:
        """A row for each contestant and size."""
        header = ["clip", "batch", "contestant", "first ms", "ms", "p95", "RTFx", "of the matrix rate", "error"]
        rows = [
            [
                f"{cell.seconds:g} s",
                str(cell.batch),
                cell.contestant,
                f"{cell.first_ms:.1f}",
                f"{cell.time.median_ms:.2f}",
                f"{cell.time.p95_ms:.2f}",
                f"{cell.rtfx:,.0f}",
                f"{cell.share:.1%}",
                f"{cell.error:.1e}",
            ]
            for cell in self.cells
        ]
        return header, rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        best = max(self.cells, key=lambda cell: cell.rtfx)
        rates = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in self.matrix_rates.items())
        refused = "".join(f" {name} did not run: {why}." for name, why in self.refused.items())
        return (
            f"From waveforms on the host to embeddings on the host; torch begins with features on the device. RTFx: "
            f"seconds of audio for each second; most: {best.rtfx:,.0f}, {best.contestant}, {best.batch} x "
            f"{best.seconds:g} s. Matrix rates in the same run: {rates}.{refused}"
        )


class ShapesCell(Model):
    """One way to search for the algorithms of convolutions."""

    form: str
    search: str
    load_seconds: float
    first_ms: float  # a shape's first run: the median over the shapes
    repeated_ms: float  # a run of each shape, again and again: the mean over the shapes
    cycled_ms: float  # the same runs, in turn


class GpuShapes(Model):
    """What a new shape costs, and one that was there before."""

    benchmark: Literal["gpu-shapes"] = "gpu-shapes"
    run: Run
    device: Device
    shapes: tuple[tuple[int, float], ...]  # rows, seconds
    cells: tuple[ShapesCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"First costs on a GPU: {self.run.model}, {self.device}"

    @property
    def table(self) -> Table:
        """A row for each way."""
        header = ["form", "search", "load s", "first ms", "repeated ms", "in turn ms", "in turn / repeated"]
        rows = [
            [
                cell.form,
                cell.search,
                f"{cell.load_seconds:.1f}",
                f"{cell.first_ms:.1f}",
                f"{cell.repeated_ms:.2f}",
                f"{cell.cycled_ms:.2f}",
                f"{cell.cycled_ms / cell.repeated_ms:.2f}",
            ]
            for cell in self.cells
        ]
        return header, rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        best = min(self.cells, key=lambda cell: cell.cycled_ms)
        return (
            f"Batches of {len(self.shapes)} shapes. In turn, as requests come, they take least with {best.form} and "
            f"the search `{best.search}`: {best.cycled_ms:.2f} ms."
        )


class GpuLoad(Model):
    """A server that is kept busy."""

    benchmark: Literal["gpu-load"] = "gpu-load"
    run: Run
    device: Device
    form: str
    connections: int
    lengths: tuple[float, float]
    audio_seconds: float
    wall_seconds: float
    engine_seconds: float  # in which a batch was in the engine, added up over the workers
    batches: int
    clips_per_batch: float
    padded_share: float  # of the samples in batches
    server_cores: float
    latency: Latencies

    @property
    def title(self) -> str:
        """A heading."""
        return f"A server on a GPU: {self.run.model}, {self.form}, {self.device}"

    @property
    def table(self) -> Table:
        """One row."""
        header = ["connections", "clips", "RTFx", "engine busy", "clips in a batch", "padding", "server cores"]
        row = [
            str(self.connections),
            f"{self.lengths[0]:g} to {self.lengths[1]:g} s",
            f"{self.audio_seconds / self.wall_seconds:,.0f}",
            f"{self.engine_seconds / self.wall_seconds:.0%}",
            f"{self.clips_per_batch:.1f}",
            f"{self.padded_share:.1%}",
            f"{self.server_cores:.1f}",
            *self.latency.cells,
        ]
        return [*header, "p50 ms", "p95", "p99"], [row]

    @property
    def summary(self) -> str:
        """The figures that count."""
        idle = max(0.0, 1 - self.engine_seconds / self.wall_seconds)
        return (
            f"{self.audio_seconds:,.0f} s of audio in {self.wall_seconds:.1f} s, {self.batches} batches. For "
            f"{idle:.0%} of the time no batch was in the engine: then the host was what it waited for."
        )
