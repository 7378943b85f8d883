"""Windows of several contexts against the whole clip."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks import console
from benchmarks.audio.sentences import RATE, Sentence, joined, sentences, word_errors
from benchmarks.load import subjects
from benchmarks.load.subjects import Subject
from benchmarks.records.long_audio import ContextCell, WindowEffect
from engines.batch import Clip, Row
from engines.engine import Engine
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.steps import finish
from server.tasks.transcribe import Transcribe
from server.windows import Geometry, Span, Window, spans

CONTEXTS = (0.0, 0.65, 1.3, 2.6, 5.0)
WINDOW_SECONDS = 20.0  # so that clips that the engine takes at once, of up to a minute, have several
CLIP_SECONDS = 55.0
NEAR_SECONDS = 0.5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    subjects.add_options(parser, subjects.DEMO)
    parser.add_argument("--clips", type=console.positive, default=12, help=f"of {CLIP_SECONDS:g} s")


def measure(arguments: argparse.Namespace) -> WindowEffect:
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
