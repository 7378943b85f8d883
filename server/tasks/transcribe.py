"""transcribe: a clip -> the text that is spoken in it, or its translation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.batch import Row
from engines.manifest import LOGITS, Manifest
from server.decoding.ctc import EMISSION_BYTES, IDS, LOG_PROBS, PATH_BYTES, CtcDecoder, Emissions, Increments
from server.decoding.hotwords import Hotwords, cleaned
from server.decoding.hypotheses import PIECE_SECONDS, BeamDecoder, Candidate
from server.decoding.search import Hypothesis, best_sums
from server.decoding.text import TextDecoder
from server.decoding.transcript import Alternative, Piece, Transcript
from server.errors import OptionError, OptionNotSupportedError, TaskNotSupportedError
from server.formats.segments import segments_of
from server.kept import FLOAT32_BYTES, Kept
from server.schemas.options import Timestamps, TranscribeOptions
from server.settings import Settings
from server.steps import Steps
from server.tasks.plan import SAMPLING, check_beams, make_plan, one_language
from server.windows import Geometry, Span, Window

# Answers that are made of words and their times.
TIMED_FORMATS = ("srt", "vtt", "verbose_json")
# With hotwords, where a request says nothing: as others have it (pyctcdecode), and enough beams for them to count.
HOTWORD_WEIGHT, HOTWORD_BEAMS = 10.0, 16
# What the words and characters of a frame take with their JSON: some 600 bytes each; a word has two frames or more.
PIECE_BYTES: dict[Timestamps, int] = {"none": 0, "word": 300, "char": 900}
SURE_OF_NOTHING = float(np.finfo(np.float64).tiny)  # a confidence that is next to none, and has a logarithm
# Of all hotwords together: what is said once, such as names and terms, has fewer.
MAX_HOTWORD_CHARACTERS = 4096


class Transcribe:
    """The task, for one engine that labels frames (CTC) and one set of options."""

    outputs = (LOGITS,)

    def __init__(self, manifest: Manifest, options: TranscribeOptions, settings: Settings) -> None:
        """Raise OptionNotSupportedError or OptionError for an option that cannot be honoured."""
        if manifest.ctc is None:
            raise TaskNotSupportedError("the model has no CTC vocabulary", "model")
        refuse(options, "temperature", unless=(None, 0))
        refuse(options, *SAMPLING, "max_tokens")
        if options.language and options.language != manifest.target_lang:
            raise one_language(manifest.target_lang)
        self.geometry = Geometry.of(manifest, self.outputs, options)
        self.windowed = options.windows == "auto"
        self._options = options
        self._samples_per_frame = manifest.output(LOGITS).samples_per_frame or 1
        self._frame_seconds = self._samples_per_frame / manifest.sample_rate
        self._decoder = CtcDecoder(manifest.ctc)
        self._search = self._make_search(settings)

    @property
    def kept(self) -> Kept:
        """What `reduce` leaves of each frame, and what the text with its times takes."""
        frame = PATH_BYTES + PIECE_BYTES[self._level]
        if self._search:
            frame += FLOAT32_BYTES * self._decoder.vocabulary_size + EMISSION_BYTES * (self._options.alternatives or 1)
        return Kept(self.outputs, frame_bytes=frame)

    def reduce(self, window: Window) -> Row:
        """Return what is kept of the logits of a window: the best path, or for beams all of them."""
        logits = window.row[LOGITS]
        if self._search is None:
            return self._decoder.path(logits)
        return {LOGITS: logits.copy()}  # so that those of others, which were computed with them, can be freed

    def result(self, windows: Sequence[Window]) -> Steps[Transcript]:
        """Return what the reduced `windows` of a clip say. Where beams are searched, that takes several steps."""
        if self._search is None:
            ids, log_probs = (self._joined(windows, name) for name in (IDS, LOG_PROBS))
            return self._transcript(self._decoder.emissions(ids, log_probs))
        parts = (window.kept(LOGITS, self._samples_per_frame) for window in windows)
        found = yield from self._search.decode(parts, self._options.alternatives or 1)
        best = self._transcript(found[0].emissions)
        return replace(best, alternatives=self._alternatives(found)) if self._options.alternatives else best

    def increments(self) -> Callable[[Window], str] | None:
        """Return what tells how each reduced window goes on with the text; None for beams, which tell at the end."""
        if self._search is not None:
            return None
        found = Increments(self._decoder)
        return lambda window: found.add(self._joined([window], IDS))

    def _joined(self, windows: Sequence[Window], name: str) -> NDArray[Any]:
        return np.concatenate([window.kept(name, self._samples_per_frame) for window in windows])

    def _alternatives(self, found: Sequence[Candidate]) -> tuple[Alternative, ...]:
        texts = [self._transcript(one.emissions, level="none") for one in found]
        return tuple(Alternative(text.text, text.confidence, one.score) for text, one in zip(texts, found, strict=True))

    def _transcript(self, found: Emissions, level: Timestamps | None = None) -> Transcript:
        level = level or self._level
        text = self._decoder.text(found.tokens)
        words = None if level == "none" else self._decoder.words(found, self._frame_seconds)
        characters = partial(self._decoder.characters, found, self._frame_seconds)
        return Transcript(
            text=text,
            confidence=found.confidence if text else None,
            words=words,
            chars=characters() if level == "char" else None,
            segments=segments_of(words, characters) if words is not None and self._is_timed else None,
        )

    @property
    def _is_timed(self) -> bool:
        return self._options.response_format in TIMED_FORMATS

    @property
    def _level(self) -> Timestamps:
        """The times that are needed: subtitles are made of words."""
        return "word" if self._is_timed and self._options.timestamps == "none" else self._options.timestamps

    def _make_search(self, settings: Settings) -> BeamDecoder | None:
        """Return how beams are searched, or None where the best path is what is asked for."""
        hotwords = self._hotwords()
        beams = self._options.beams or (min(HOTWORD_BEAMS, settings.max_beams) if hotwords else 1)
        check_beams(beams, self._options, settings)
        if beams == 1 and not hotwords and not self._options.alternatives:
            return None
        return BeamDecoder(self._decoder, beams, hotwords, max(3, round(PIECE_SECONDS / self._frame_seconds)))

    def _hotwords(self) -> Hotwords | None:
        asked, weight = self._options.hotwords or [], self._options.hotword_weight
        words = cleaned([asked] if isinstance(asked, str) else asked)
        if not words:
            if weight is not None:
                raise OptionError("'hotword_weight' says how much hotwords count: set 'hotwords' too", "hotword_weight")
            return None
        if sum(map(len, words)) > MAX_HOTWORD_CHARACTERS:
            raise OptionError(f"'hotwords' have more than {MAX_HOTWORD_CHARACTERS} characters together", "hotwords")
        try:
            return Hotwords(self._decoder, words, HOTWORD_WEIGHT if weight is None else weight)
        except ValueError as error:
            raise OptionError(f"'hotwords': {error}", "hotwords") from None


class WrittenWindow(Protocol):
    """What was written about a window of a clip, best first, and where the window lies."""

    @property
    def hypotheses(self) -> Sequence[Hypothesis]:
        """One at least."""

    @property
    def span(self) -> Span:
        """In samples."""


class Write:
    """The task, for one engine that writes the text token by token and one set of options."""

    def __init__(self, manifest: Manifest, text: TextDecoder, options: TranscribeOptions, settings: Settings) -> None:
        """Raise OptionNotSupportedError or OptionError for an option that cannot be honoured."""
        if manifest.generation is None:
            raise TaskNotSupportedError("the model writes no text", "model")
        refuse(options, "hotwords", "hotword_weight")
        refuse(options, "timestamps", unless=("none",))
        self.geometry = Geometry.of(manifest, (), options)
        self.windowed = options.windows == "auto"
        self.plan = make_plan(manifest.generation, options, settings)
        self._text, self._rate, self._count = text, manifest.sample_rate, options.alternatives or 0

    def result(self, windows: Sequence[WrittenWindow]) -> Transcript:
        """Return what was written about the `windows` of a clip: a segment for each, joined by spaces.

        Alternatives of a clip that has several are the best combinations of theirs, whose scores add up.
        """
        whole = self._joined([window.hypotheses[0] for window in windows])
        segments = (self._segment(window) for window in windows)
        return replace(
            whole,
            segments=tuple(segment for segment in segments if segment.text),
            alternatives=self._alternatives([window.hypotheses for window in windows]),
        )

    def _joined(self, parts: Sequence[Hypothesis]) -> Transcript:
        texts = [self._text.decode(part.tokens) for part in parts]
        text = texts[0] if len(texts) == 1 else " ".join(stripped for each in texts if (stripped := each.strip()))
        tokens = sum(len(part.tokens) for part in parts)
        return Transcript(text, confidence(parts) if text else None, tokens=tokens)

    def _segment(self, window: WrittenWindow) -> Piece:
        said, span = self._joined(window.hypotheses[:1]), window.span
        return Piece(said.text.strip(), span.keep_start / self._rate, span.keep_end / self._rate, said.confidence)

    def _alternatives(self, windows: Sequence[Sequence[Hypothesis]]) -> tuple[Alternative, ...]:
        found = best_sums([[one.score for one in hypotheses] for hypotheses in windows], self._count)
        made = [
            (score, self._joined([each[place] for each, place in zip(windows, places, strict=True)]))
            for score, places in found
        ]
        return tuple(Alternative(one.text, one.confidence, score) for score, one in made)


def confidence(parts: Sequence[Hypothesis]) -> float | None:
    """Return the geometric mean of the confidence of `parts`, by their tokens; None where there is none."""
    sure = [(len(part.tokens), part.confidence) for part in parts if part.confidence is not None]
    if not sure:
        return None
    tokens, values = zip(*sure, strict=True)
    return float(np.exp(np.average(np.log(np.maximum(values, SURE_OF_NOTHING)), weights=tokens)))


def refuse(options: TranscribeOptions, *names: str, unless: Sequence[Any] = (None, "", [])) -> None:
    """Raise OptionNotSupportedError if one of `names` has a value other than `unless`, which ask for nothing."""
    for name in names:
        if getattr(options, name) not in unless:
            raise OptionNotSupportedError(f"'{name}' is not supported by this model: leave it out", name)
