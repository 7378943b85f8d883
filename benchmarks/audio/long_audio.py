"""Long recordings: what windows do to the results, and what hours cost the server.

`sonant bench long-audio windows | recording`. The audio is made of the demo's sentences.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from benchmarks import console
from benchmarks.load import subjects
from benchmarks.load.client import HOST
from benchmarks.load.process import Server
from benchmarks.load.subjects import Subject
from benchmarks.machine import ROOT
from benchmarks.records.long_audio import ContextCell, LongCell, LongRecording, WindowEffect
from engines.batch import Clip, Row
from engines.engine import Engine
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.steps import finish
from server.tasks.transcribe import Transcribe
from server.windows import Geometry, Span, Window, spans

AUDIO = ROOT / "demo" / "audio"
RATE = 16_000
CONTEXTS = (0.0, 0.65, 1.3, 2.6, 5.0)
WINDOW_SECONDS = 20.0  # so that clips that the engine takes at once, of up to a minute, have several
CLIP_SECONDS = 55.0
PAUSES = (0.3, 1.0)  # between two sentences, in seconds
HISS = 1e-4  # of the pauses: no recording has digital silence
NEAR_SECONDS = 0.5
SHORT_SECONDS, SHORT_ROUNDS = 30.0, 7
PIECES = 12  # different ones of half a minute, of which a long recording is made
TIMEOUT_SECONDS = 600.0  # the longest that a request may ask for
MIB = 2**20


@dataclass(frozen=True)
class Sentence:
    """What was said."""

    clip: Clip
    text: str


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="sonant bench long-audio", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    windows = kinds.add_parser("windows", help="windows of several contexts against the whole clip")
    subjects.add_options(windows, subjects.DEMO)
    windows.add_argument("--clips", type=console.positive, default=12, help=f"of {CLIP_SECONDS:g} s")
    recording = kinds.add_parser("recording", help="hours against the real server")
    subjects.add_options(recording, subjects.DEMO[:1])
    recording.add_argument("--minutes", type=float, default=120.0)
    arguments = parser.parse_args(argv)
    return console.main(measure_windows if arguments.kind == "windows" else measure_recording, arguments)


def measure_windows(arguments: argparse.Namespace) -> WindowEffect:
    """Compare the windows of clips with the whole, for each engine and context."""
    found, host = subjects.prepare(arguments)
    random = np.random.default_rng(arguments.seed)
    said = sentences()
    clips = [joined(said, CLIP_SECONDS, random) for _ in range(arguments.clips)]
    cells: list[ContextCell] = []
    whole_errors = {}
    with console.progress_bar(len(found) * (1 + len(CONTEXTS))) as progress:
        for subject in found:
            effect = Effect(subject, clips, arguments.threads)
            if effect.texts:
                whole_errors[subject.name] = effect.word_errors(effect.texts)
            for context in CONTEXTS:
                progress(f"{subject.name}, {context:g} s", len(cells))
                cells.append(effect.cell(context))
    return WindowEffect(
        run=subjects.describe(found, arguments, host),
        clips=len(clips),
        clip_seconds=float(np.mean([len(clip.clip) for clip in clips])) / RATE,
        window_seconds=WINDOW_SECONDS,
        whole_word_errors=whole_errors,
        cells=tuple(cells),
    )


class Effect:
    """What an engine makes of whole clips, and of their windows."""

    def __init__(self, subject: Subject, clips: Sequence[Sentence], threads: int) -> None:
        self._subject = subject
        self._engine = subject.engine(threads)
        self._clips = clips
        self._outputs = ["embeddings", "logits"] if subject.manifest.ctc else ["embeddings"]
        self._whole = [run(self._engine, one.clip, self._outputs) for one in clips]
        spans_ = [Span.whole(len(one.clip)) for one in clips]
        pairs = zip(self._whole, spans_, strict=True)
        self.texts = [self._text([Window(row, span)], self._task(0.0)) for row, span in pairs] if self._has_text else []

    @property
    def _has_text(self) -> bool:
        return self._subject.manifest.ctc is not None

    def cell(self, context: float) -> ContextCell:
        """Cut the clips into windows with so much context."""
        geometry = geometry_of(self._subject, self._outputs, context)
        errors, near, texts = [], [], []
        samples = self._subject.manifest.output("embeddings").samples_per_frame or 1
        for one, whole in zip(self._clips, self._whole, strict=True):
            cut = spans(len(one.clip), geometry)
            windows = [Window(run(self._engine, one.clip[span.start : span.end], self._outputs), span) for span in cut]
            frames = np.concatenate([window.kept("embeddings", samples) for window in windows])
            error = relative(frames, whole["embeddings"])
            seams = np.array([span.keep_start for span in cut[1:]]) / samples
            distance = np.abs(np.arange(len(error))[:, None] - seams).min(axis=1)
            errors.append(error)
            near.append(error[distance < NEAR_SECONDS * RATE / samples])
            if self._has_text:
                texts.append(self._text(windows, self._task(context)))
        every = np.concatenate(errors)
        return ContextCell(
            model=self._subject.name,
            context_seconds=context,
            median=float(np.median(every)),
            p99=float(np.percentile(every, 99)),
            near=float(np.median(np.concatenate(near))),
            differing=sum(a != b for a, b in zip(texts, self.texts, strict=True)) if self._has_text else None,
            word_errors=self.word_errors(texts) if self._has_text else None,
        )

    def word_errors(self, texts: Sequence[str]) -> float:
        """Return the word errors of `texts`."""
        return word_errors([(one.text, text) for one, text in zip(self._clips, texts, strict=True)])

    def _task(self, context: float) -> Transcribe:
        return Transcribe(self._subject.manifest, window_options(context), Settings())

    def _text(self, windows: Sequence[Window], task: Transcribe) -> str:
        return finish(task.result([Window(task.reduce(window), window.span) for window in windows])).text


def measure_recording(arguments: argparse.Namespace) -> LongRecording:
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
                idle = resident_mib(server, "VmRSS")
                shorts = [Transfer.of(server, way, short, subject.name) for _ in range(SHORT_ROUNDS)]
                done = Transfer.of(server, way, long, subject.name)
                heard = done.text or heard
                peak = resident_mib(server, "VmHWM")
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


def resident_mib(server: Server, field: str) -> float:
    """Return what /proc says of the memory of the server's process."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def sentences() -> list[Sentence]:
    """Return the demo's sentences."""
    files = sorted(AUDIO.glob("*.flac"))
    return [
        Sentence(soundfile.read(file, dtype="float32")[0], file.with_suffix(".txt").read_text().strip())
        for file in files
    ]


def sequence(said: Sequence[Sentence], seconds: float, random: np.random.Generator) -> Iterator[Sentence]:
    """Yield sentences in a random order, each with the pause behind it, as long as they fit into `seconds`."""
    left = round(seconds * RATE)
    while True:
        for index in random.permutation(len(said)):
            pause = random.standard_normal(round(random.uniform(*PAUSES) * RATE)) * HISS
            clip = np.concatenate([said[index].clip, pause.astype(np.float32)])
            left -= len(clip)
            if left < 0:
                return
            yield Sentence(clip, said[index].text)


def joined(said: Sequence[Sentence], seconds: float, random: np.random.Generator) -> Sentence:
    """Return as many sentences as fit into `seconds`, as one."""
    parts = list(sequence(said, seconds, random))
    return Sentence(np.concatenate([part.clip for part in parts]), " ".join(part.text for part in parts))


def write_recording(
    path: Path, said: Sequence[Sentence], seconds: float, random: np.random.Generator
) -> tuple[str, float]:
    """Write sentences as FLAC; return what is said in them, and their duration."""
    texts, samples = [], 0
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for one in sequence(said, seconds, random):
            file.write(one.clip)
            samples += len(one.clip)
            texts.append(one.text)
    return " ".join(texts), samples / RATE


def window_options(context: float) -> TranscribeOptions:
    """Return what is asked for."""
    return TranscribeOptions(window_seconds=WINDOW_SECONDS, context_seconds=context)


def geometry_of(subject: Subject, outputs: Sequence[str], context: float) -> Geometry:
    """Return how the clips are cut."""
    return Geometry.of(subject.manifest, outputs, window_options(context))


def run(engine: Engine, clip: Clip, outputs: Sequence[str]) -> Row:
    """Return what `engine` makes of `clip`."""
    [row] = engine.run([clip], outputs)
    return row


def relative(frames: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the error of each frame: the length of the difference, by that of the frame of the whole if it has one.

    The last frame of a model that makes two of one may be zeros.
    """
    wide = whole.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1)
    return np.asarray(np.linalg.norm(frames - wide, axis=-1) / np.where(length == 0, 1, length))


def word_errors(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the edits that turn what was heard into what was said, by the words that were said."""
    words = [(said.upper().split(), heard.upper().split()) for said, heard in pairs]
    return sum(Levenshtein.distance(said, heard) for said, heard in words) / sum(len(said) for said, _ in words)
