"""What a Sonant server has counted: the totals of /metrics."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.load.client import Answer, Client, Request
from benchmarks.records.serving import Batching

BUSY, AUDIO = "sonant_engine_busy_seconds_total", "sonant_engine_audio_seconds_total"
CLIPS, PADDING = "sonant_batch_clips", "sonant_batch_padding_ratio"
NAMES = frozenset({BUSY, AUDIO, *(f"{name}_{kind}" for name in (CLIPS, PADDING) for kind in ("sum", "count"))})
TIMEOUT_SECONDS = 5.0  # another server may have no idea what to answer

Counts = Mapping[str, float]  # by the names of the samples, all models together


async def read(port: int, host: str) -> Counts:
    """Ask a server; of another than Sonant there is nothing."""
    client = Client(port, host, TIMEOUT_SECONDS)
    answer = await client.ask(Request.get("/metrics").to(f"{host}:{port}"))
    client.close()
    return parse(answer)


def parse(answer: Answer) -> Counts:
    """Return what is counted in an answer of /metrics."""
    found: dict[str, float] = {}
    for line in answer.body.decode("utf-8", "replace").splitlines():
        name, labels, _ = line.partition("{")
        if labels and name in NAMES:
            found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found


def grown(before: Counts, after: Counts) -> Counts:
    """Return what has been counted since."""
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def batching(counted: Counts) -> Batching | None:
    """Say what the batches were like; None where there were none, or nobody counted."""
    batches = counted.get(f"{CLIPS}_count", 0.0)
    if not batches:
        return None
    return Batching(
        batches=round(batches),
        clips=counted[f"{CLIPS}_sum"] / batches,
        padded_share=counted[f"{PADDING}_sum"] / batches,
    )
