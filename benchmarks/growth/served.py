"""An engine behind HTTP: what is asked, and what the server has in memory meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice

import httpx
import numpy as np

from benchmarks import console
from benchmarks.engines.opened import embeddings
from benchmarks.load import drive
from benchmarks.load.client import HOST, Request
from benchmarks.load.drive import Sample
from benchmarks.load.process import Server
from benchmarks.load.requests import requests, wav
from benchmarks.load.subjects import Subject, statuses
from benchmarks.records.growth import GrowthPoint
from benchmarks.resident import Resident, reset_peak
from engines.batch import Clip
from engines.verify import error

OK, REFUSED = 200, {429, 503}
TIMEOUT_SECONDS = 600.0  # the longest that a request may ask for


def asked(subject: Subject, clips: Sequence[Clip]) -> list[Request]:
    """Return a request for the pooled embeddings of each clip."""
    rate = subject.manifest.sample_rate
    return requests(clips, rate, subject.name, answer_format="pooled", timeout=TIMEOUT_SECONDS)


def check(server: Server, subject: Subject, clip: Clip, threads: int) -> None:
    """Compare one answer with the engine's own; WrongResultError where it differs."""
    url = f"http://{HOST}:{server.port}/v1/encode"
    body = wav(clip, subject.manifest.sample_rate)
    options, headers = {"model": subject.name, "pooling": "mean"}, {"Content-Type": "audio/wav"}
    answer = httpx.post(url, params=options, content=body, headers=headers, timeout=TIMEOUT_SECONDS).raise_for_status()
    heard = (np.clip(np.rint(clip * 2**15), -(2**15), 2**15 - 1) / 2**15).astype(np.float32)  # what 16 bits leave
    [frames] = embeddings(subject.engine(threads), [heard])
    served = np.asarray(answer.json()["data"][0]["embedding"], np.float32)
    console.check(f"{subject.name} over HTTP", error(served, frames.mean(axis=0)))


def ask(
    server: Server, x: float, requests_: Sequence[Request], clients: int, *, least: int, most: int, seconds: float
) -> GrowthPoint:
    """Let so many clients ask for `seconds`, and for `least` answers, but for no more than `most`.

    ValueError where an answer is neither a result nor a refusal.
    """
    reset_peak(server.process.pid)
    turns = cycle(requests_)
    samples = drive.run(partial(drive.closed_loop, server.port, islice(turns, least), clients))
    spent = samples[-1].end - samples[0].start
    if spent < seconds and least < most:
        rest = islice(turns, most - least)
        samples += drive.run(partial(drive.closed_loop, server.port, rest, clients, seconds - spent))
    peak = Resident.of(server.process.pid).peak
    return summed(x, samples, peak)


def summed(x: float, samples: Sequence[Sample], peak: float) -> GrowthPoint:
    """Return one size of what was asked; ValueError where an answer is neither a result nor a refusal."""
    if others := set(statuses(samples)) - REFUSED - {OK}:
        raise ValueError(f"{x:g}: the statuses were {statuses(samples)}: {min(others)} is neither result nor refusal")
    done = [sample for sample in samples if sample.status == OK]
    latencies = [1e3 * sample.latency for sample in done] or [math.nan]
    spent = max(sample.end for sample in samples) - min(sample.start for sample in samples)
    return GrowthPoint(
        x=x,
        rounds=len(done),
        median_ms=float(np.median(latencies)),
        p95_ms=float(np.percentile(latencies, 95)),
        audio_per_second=sum(sample.audio_seconds for sample in done) / spent,
        memory_mib=peak,
        refused=len(samples) - len(done),
    )
