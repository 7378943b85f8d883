"""How a decoder is to write about clips: what the checkpoint asks for, and what a request does."""

from __future__ import annotations

from typing import Any

from engines.manifest import Generation, Search
from server.decoding.search import Plan
from server.errors import OptionError, OptionNotSupportedError, quoted
from server.schemas.options import TranscribeOptions
from server.settings import Settings

# Options that say how tokens are drawn.
SAMPLING = ("top_k", "top_p", "seed")
# Below, scores that are divided by the temperature leave what float32 holds, or come near to the score of no beam.
MIN_TEMPERATURE = 1e-3


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
    check_beams(beams, options, settings)
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


def check_beams(beams: int, options: TranscribeOptions, settings: Settings) -> None:
    """Raise OptionError unless so many `beams` are allowed, and enough for the alternatives."""
    if beams > settings.max_beams:
        raise OptionError(f"'beams' is {beams}; up to {settings.max_beams} are taken", "beams")
    if options.alternatives and options.alternatives > beams:
        message = f"{options.alternatives} alternatives need as many beams, not {beams}: set 'beams' too"
        raise OptionError(message, "alternatives")


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
        raise one_language()
    if language not in generation.languages:
        there = ", ".join(sorted(generation.languages))
        raise OptionError(f"the model has no language {quoted(language)}; it has: {there}", "language")
    return generation.languages[language]


def one_language(name: str | None = None) -> OptionNotSupportedError:
    """Return what to raise where a model that writes one language is asked for another; `name` is what it is called."""
    also = f", or set it to {name!r}" if name else ""
    message = f"'language' chooses nothing here: this model writes the one it was trained for; leave it out{also}"
    return OptionNotSupportedError(message, "language")
