"""When words are said, by CTC's path and by espeak-ng's own events, on the demo: `sonant bench timestamps`.

The clips are those of the demo's held-out test: its sentences, in voices that no training clip has.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import console, machine
from benchmarks.audio.spoken import Word, speak
from benchmarks.machine import ROOT
from benchmarks.records.timestamps import Differences, TimesCell, Timestamps
from demo.measure import error_rate
from demo.speech import SAMPLE_RATE, split_sentences, variants_of, with_prosody
from demo.voices import draw_voice
from engines.batch import Row
from engines.engine import Engine
from engines.runtimes import RuntimeOptions
from server.decoding.transcript import Piece, Transcript
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.steps import finish
from server.tasks.transcribe import Transcribe
from server.windows import Span, Window

ENGINE = ROOT / "demo" / "engines" / "hubert-ctc-english"
PUNCTUATION = ",.?!"  # that the sentences are spoken with
# How the texts are decoded: the best path, and beams as many as the server's default allows.
DECODINGS = {
    "greedy": TranscribeOptions(timestamps="word"),
    "16 beams": TranscribeOptions(timestamps="word", beams=16),
}


@dataclass(frozen=True)
class Said:
    """A clip of the test."""

    text: str
    words: list[Word]
    waveform: NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench timestamps", description="Times of words, next to those of the synthesizer that spoke them."
    )
    parser.add_argument("--engine", type=Path, default=ENGINE, help="a folder: of the demo's words, by CTC")
    parser.add_argument("--clips", type=console.positive, default=600, help="of the held-out test, which has 600")
    parser.add_argument("--threads", type=console.positive, default=1, help="of the engine")
    parser.add_argument("--seed", type=int, default=7, help="that of the demo's training: it draws the sentences")
    parser.add_argument("--output", type=Path, help="write the result as JSON: benchmarks/results/timestamps.json")
    return console.main(measure, parser.parse_args(argv))


def measure(arguments: argparse.Namespace) -> Timestamps:
    """Speak the clips, run them, and decode them in each way. ValueError where the library is not installed."""
    host = machine.describe()
    engine = Engine(arguments.engine, options=RuntimeOptions(threads=arguments.threads))
    clips = list(spoken(arguments.clips, arguments.seed))
    rows = []
    with console.progress_bar(len(clips)) as progress:
        for number, clip in enumerate(clips):
            progress("listening", number)
            rows += engine.run([clip.waveform], Transcribe.outputs)
    return Timestamps(
        run=console.describe_run(engine.name, engine.manifest.parameters, arguments, host),
        clips=len(clips),
        audio_seconds=seconds_of(clips),
        words=sum(len(clip.words) for clip in clips),
        cells=tuple(
            cell(name, Transcribe(engine.manifest, options, Settings()), clips, rows)
            for name, options in DECODINGS.items()
        ),
    )


def spoken(count: int, seed: int) -> Iterator[Said]:
    """Yield the first clips of the demo's held-out test, as it draws them."""
    generator = random.Random(f"test {seed}")
    for sentence in split_sentences("test", 0, seed)[:count]:
        voice = draw_voice(generator, variants_of("test"), vary_speed=False)
        try:
            audio, words = speak(with_prosody(sentence.text, generator), voice)
        except OSError as error:
            raise ValueError(f"espeak-ng's library is needed ({error}): install libespeak-ng1") from None
        yield Said(sentence.text, words, audio.astype(np.float32) / np.float32(32768))


def seconds_of(clips: Sequence[Said]) -> float:
    """Return how long all of them are."""
    return sum(len(clip.waveform) for clip in clips) / SAMPLE_RATE


def cell(name: str, task: Transcribe, clips: Sequence[Said], rows: Sequence[Row]) -> TimesCell:
    """Decode `rows` and compare them with what was said."""
    started = time.perf_counter()
    found = [decode(task, row, len(clip.waveform)) for clip, row in zip(clips, rows, strict=True)]
    milliseconds = 1e3 * (time.perf_counter() - started) / seconds_of(clips)
    pairs = [pair for clip, one in zip(clips, found, strict=True) for pair in matched(clip.words, one.words or ())]
    return TimesCell(
        decoding=name,
        starts=differences([piece.start - word.start for word, piece in pairs]),
        ends=differences([piece.end - word.end for word, piece in pairs if word.end is not None]),
        error_rate=error_rate([(clip.text, one.text) for clip, one in zip(clips, found, strict=True)]),
        milliseconds=milliseconds,
    )


def decode(task: Transcribe, row: Row, samples: int) -> Transcript:
    """Return what a clip of so many samples says."""
    span = Span.whole(samples)
    return finish(task.result([Window(task.reduce(Window(row, span)), span)]))


def matched(words: Sequence[Word], pieces: Sequence[Piece]) -> Iterator[tuple[Word, Piece]]:
    """Yield the words that were said and those that were heard, where these are the same."""
    said = [word.text.strip(PUNCTUATION) for word in words]
    blocks = SequenceMatcher(None, said, [piece.text for piece in pieces], autojunk=False).get_matching_blocks()
    for block in blocks:
        yield from zip(words[block.a : block.a + block.size], pieces[block.b : block.b + block.size], strict=True)


def differences(seconds: Sequence[float]) -> Differences:
    """Summarise differences; NaN of none."""
    times = 1e3 * np.array(seconds if len(seconds) else [np.nan])
    median, p90 = np.percentile(np.abs(times), [50, 90])
    return Differences(words=len(seconds), median=float(median), p90=float(p90), bias=float(np.median(times)))
