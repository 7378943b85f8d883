"""Hours of audio against the real server."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile

from benchmarks import console
from benchmarks.audio.sentences import RATE, Sentence, joined, sentences, word_errors, write_recording
from benchmarks.load import subjects
from benchmarks.load.client import HOST
from benchmarks.load.process import Server
from benchmarks.records.long_audio import LongCell, LongRecording
from benchmarks.resident import Resident

SHORT_SECONDS, SHORT_ROUNDS = 30.0, 7
PIECES = 12  # different ones of half a minute, of which a long recording is made
TIMEOUT_SECONDS = 600.0  # the longest that a request may ask for
MIB = 2**20


@dataclass(frozen=True)
class Asked:
    """One way to ask for a recording."""

    what: str
    task: str
    accept: str
    options: Mapping[str, str]


TEXT = Asked("text", "transcribe", "application/json", {})
WAYS = (
    TEXT,
    Asked("one vector (mean)", "encode", "application/json", {"pooling": "mean"}),
    Asked("frames, npy", "encode", "application/x-npy", {}),
    Asked("frames, JSON", "encode", "application/json", {}),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    subjects.add_options(parser, subjects.DEMO[:1])
    parser.add_argument("--minutes", type=float, default=120.0)


def measure(arguments: argparse.Namespace) -> LongRecording:
    """Send a long recording to the real server, in each way; ValueError where the server does not answer it."""
    found, host = subjects.prepare(arguments)
    [subject] = found
    random = np.random.default_rng(arguments.seed)
    said = sentences()
    with tempfile.TemporaryDirectory() as folder, console.progress_bar(len(WAYS) + 1) as progress:
        progress("the recording is made", 0)
        long = Path(folder, "long.flac")
        halves = [joined(said, SHORT_SECONDS, random) for _ in range(PIECES)]
        text, seconds = write_recording(long, halves, 60.0 * arguments.minutes, random)
        short = Path(folder, "short.flac")
        soundfile.write(short, halves[0].clip, RATE)
        cells, heard = [], ""
        for index, way in enumerate(WAYS):
            progress(way.what, index + 1)
            # A server of its own: what one way has left in memory is not counted for the next.
            with subjects.serve(found, arguments) as server:
                idle = Resident.of(server.process.pid).all
                shorts = [Transfer.of(server, way, short, subject.name) for _ in range(SHORT_ROUNDS)]
                done = Transfer.of(server, way, long, subject.name)
                heard = done.text or heard
                peak = Resident.of(server.process.pid).peak
                if way is TEXT:
                    first_idle = idle
                    alone = [
                        [(one.text, transcript(server, one, subject.name)) for one in each] for each in (halves, said)
                    ]
            cells.append(
                LongCell(
                    what=way.what,
                    seconds=done.seconds,
                    per_second=done.seconds / seconds,
                    short_per_second=float(np.median([one.seconds for one in shorts])) / soundfile.info(short).duration,
                    peak_mib=peak - idle + first_idle,
                    received_mib=done.size / MIB,
                )
            )
    return LongRecording(
        run=subjects.describe(found, arguments, host),
        minutes=round(seconds / 60, 1),
        short_seconds=SHORT_SECONDS,
        idle_mib=first_idle,
        word_errors=word_errors([(text, heard)]),
        pieces_word_errors=word_errors(alone[0]),
        sentences_word_errors=word_errors(alone[1]),
        cells=tuple(cells),
    )


@dataclass(frozen=True)
class Transfer:
    """A request and its answer: its time, the bytes of it, and the text if it has one."""

    seconds: float
    size: int
    text: str

    @classmethod
    def of(cls, server: Server, way: Asked, path: Path, model: str) -> Transfer:
        """Send the file at `path`; ValueError where the answer is not all there."""
        headers = {"Accept": way.accept, "Content-Type": "audio/flac"}
        params = {"model": model, "timeout": str(TIMEOUT_SECONDS), **way.options}
        url = f"http://{HOST}:{server.port}/v1/{way.task}"
        begin, size, text = time.perf_counter(), 0, ""
        try:
            with (
                path.open("rb") as file,
                httpx.Client(timeout=TIMEOUT_SECONDS, params=params) as client,
                client.stream("POST", url, content=file, headers=headers) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    raise ValueError(f"{way.what}: {answer.status_code} {answer.read().decode()[:300]}")
                if way is TEXT:
                    body = answer.read()
                    size, text = len(body), answer.json()["text"]
                else:
                    size = sum(map(len, answer.iter_raw()))
        except httpx.TransportError as error:
            raise ValueError(f"{way.what}: {error}") from None
        return cls(time.perf_counter() - begin, size, text)


def transcript(server: Server, one: Sentence, model: str) -> str:
    """Return what the server hears in a sentence alone."""
    with tempfile.NamedTemporaryFile(suffix=".flac") as file:
        soundfile.write(file.name, one.clip, RATE, format="FLAC")
        return Transfer.of(server, TEXT, Path(file.name), model).text
