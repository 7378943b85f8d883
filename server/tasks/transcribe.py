"""transcribe: a clip -> the text that is spoken in it, or its translation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.batch import Row
from engines.manifest import Generation, Manifest, Search
from server.decoding.ctc import CtcDecoder, Transcript
from server.decoding.search import Hypothesis, Plan
from server.decoding.text import TextDecoder
from server.errors import OptionError, OptionNotSupportedError, TaskNotSupportedError, quoted
from server.schemas.options import TranscribeOptions
from server.settings import Settings

# Options that say how tokens are drawn, and those that a model which writes token by token has beside them.
SAMPLING = ("top_k", "top_p", "seed")
WRITING = ("alternatives", *SAMPLING, "max_tokens", "language")
# Below, scores that are divided by the temperature leave what float32 holds, or come near to the score of no beam.
MIN_TEMPERATURE = 1e-3


class Transcribe:
    """The task, for one engine that labels frames (CTC) and one set of options."""

    outputs = ("logits",)

    def __init__(self, manifest: Manifest, options: TranscribeOptions) -> None:
        """Raise OptionNotSupportedError for an option that cannot be honoured."""
        if manifest.ctc is None:
            raise TaskNotSupportedError("the model has no CTC vocabulary", "model")
        refuse(options, "beams", unless=(None, 1))
        refuse(options, "temperature", unless=(None, 0))
        refuse(options, *WRITING, "hotwords")
        refuse(options, "timestamps", unless=("none",))
        self._decoder = CtcDecoder(manifest.ctc)

    def result(self, row: Row) -> Transcript:
        """Return the text of the best path, with its confidence."""
        return self._decoder.greedy(row["logits"])


@dataclass(frozen=True)
class Alternative(Transcript):
    """A text that was written token by token; the better of two has the higher score."""

    score: float
    tokens: int


class Write:
    """The task, for one engine that writes the text token by token and one set of options."""

    def __init__(
        self, generation: Generation, text: TextDecoder, options: TranscribeOptions, settings: Settings
    ) -> None:
        """Raise OptionNotSupportedError or OptionError for an option that cannot be honoured."""
        refuse(options, "hotwords")
        refuse(options, "timestamps", unless=("none",))
        self.plan = make_plan(generation, options, settings)
        self._text = text

    def result(self, hypotheses: Sequence[Hypothesis]) -> list[Alternative]:
        """Return the texts of `hypotheses`."""
        return [self._alternative(one) for one in hypotheses]

    def _alternative(self, found: Hypothesis) -> Alternative:
        text = self._text.decode(found.tokens)
        return Alternative(text, found.confidence if text else None, found.score, len(found.tokens))


def refuse(options: TranscribeOptions, *names: str, unless: Sequence[Any] = (None, "", [])) -> None:
    """Raise OptionNotSupportedError if one of `names` has a value other than `unless`, which ask for nothing."""
    for name in names:
        if getattr(options, name) not in unless:
            raise OptionNotSupportedError(f"'{name}' is not supported by this model: leave it out", name)


def make_plan(generation: Generation, options: TranscribeOptions, settings: Settings) -> Plan:
    """Return what the checkpoint asks for, changed by `options`, within the operator's `settings`."""
    search = generation.search
    samples = search.do_sample if options.temperature is None else options.temperature > 0
    beams = options.beams or min(search.num_beams, settings.max_beams)
    asked: dict[str, Any] = {
        "num_beams": beams,
        "do_sample": samples,
        "max_length": 1 + _max_tokens(generation, options, settings),
    }
    for name in SAMPLING:
        if not samples and getattr(options, name) is not None:
            raise OptionError(f"'{name}' says how tokens are drawn: set 'temperature' above 0 too", name)
    if beams > settings.max_beams:
        raise OptionError(f"'beams' is {beams}; up to {settings.max_beams} are taken", "beams")
    if options.alternatives and options.alternatives > beams:
        message = f"{options.alternatives} alternatives need as many beams, not {beams}: set 'beams' too"
        raise OptionError(message, "alternatives")
    if samples and options.temperature is not None and options.temperature < MIN_TEMPERATURE:
        message = f"'temperature' is {options.temperature:g}: set 0 to take the best tokens, or {MIN_TEMPERATURE} up"
        raise OptionError(message, "temperature")
    if samples:
        wished = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p")}
        asked |= {name: value for name, value in wished.items() if value is not None}
        asked["temperature"] = max(asked.get("temperature", search.temperature), MIN_TEMPERATURE)
    if options.language:
        asked["forced_bos_token_id"] = _language(generation, options.language)
    return Plan(generation, search.model_copy(update=asked), options.seed)


def default_search(generation: Generation, settings: Settings) -> Search:
    """Return how the decoder writes where a request asks for nothing."""
    return make_plan(generation, TranscribeOptions(), settings).search


def _max_tokens(generation: Generation, options: TranscribeOptions, settings: Settings) -> int:
    """Return how many tokens may follow the start token; the decoder is never fed with the last of them."""
    most = min(settings.max_tokens, generation.max_positions or settings.max_tokens)
    if options.max_tokens is None:
        return min(max(generation.search.max_length - 1, 1), most)
    if options.max_tokens > most:
        raise OptionError(f"'max_tokens' is {options.max_tokens}; up to {most} are written", "max_tokens")
    return options.max_tokens


def _language(generation: Generation, language: str) -> int:
    """Return the token that `language` begins with."""
    if not generation.languages:
        raise OptionNotSupportedError("'language' is not supported by this model: leave it out", "language")
    if language not in generation.languages:
        there = ", ".join(sorted(generation.languages))
        raise OptionError(f"the model has no language {quoted(language)}; it has: {there}", "language")
    return generation.languages[language]
