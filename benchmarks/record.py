"""What a benchmark writes and the report reads: one JSON file for each run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from benchmarks.records.change import Changes
from benchmarks.records.endurance import Overload, Soak
from benchmarks.records.exports import Exports, Families
from benchmarks.records.gpu import GpuLoad, GpuParity, GpuShapes, GpuSpeed
from benchmarks.records.growth import Growth
from benchmarks.records.headlines import Headlines
from benchmarks.records.latency import Latency
from benchmarks.records.load import Overhead, Throughput
from benchmarks.records.long_audio import LongRecording, WindowEffect
from benchmarks.records.offline import Offline
from benchmarks.records.peer_servers import PeerServers
from benchmarks.records.peers import PeerEngines
from benchmarks.records.policy import Policy
from benchmarks.records.precision import Precision
from benchmarks.records.serving import ClosedLoop, OpenLoop
from benchmarks.records.speed import Layers
from benchmarks.records.startup import Startup
from benchmarks.records.timestamps import Timestamps

Loads = ClosedLoop | OpenLoop | Throughput | Overhead | Overload | Soak | Offline
Measured = (
    Latency | Layers | Precision | Growth | Headlines | Startup | Exports | Families | Policy | Timestamps | Changes
)
OnGpu = GpuParity | GpuSpeed | GpuShapes | GpuLoad
Record = Measured | PeerEngines | PeerServers | OnGpu | Loads | LongRecording | WindowEffect
RecordT = TypeVar("RecordT")
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="benchmark")])


def write(record: Record, path: Path) -> None:
    """Write `record` as JSON: as a whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def earlier(path: Path | None, kind: type[RecordT]) -> RecordT | None:
    """Return what an earlier run has left at `path`, if it is of this kind and not of another version of it."""
    try:
        found = read(path) if path else None
    except (FileNotFoundError, ValidationError):
        return None
    return found if isinstance(found, kind) else None


def read(path: Path) -> Record:
    """Read a record; pydantic's ValidationError where the file is none."""
    return _ADAPTER.validate_json(path.read_bytes())
