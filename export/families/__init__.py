"""One module per model family, each with a function `build`, and the table that finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from export.checkpoint import Checkpoint
from export.errors import UnsupportedError
from export.exportable import Exportable, Options
from export.families import ast, hubert, sew, speech_encoder_decoder, usm, wav2vec2
from export.head import add_head, read_head


@dataclass(frozen=True)
class Family:
    """A model family: its name, what makes its exportables, and the variants that it knows."""

    name: str
    build: Callable[[Checkpoint, Options], Exportable]
    variants: tuple[str, ...] = ()


# By `model_type` of config.json.
FAMILIES = {
    "gemma3n": Family("usm", usm.build),
    "gemma3n_audio": Family("usm", usm.build),
    "audio-spectrogram-transformer": Family("ast", ast.build, (ast.CROPPED,)),
    "hubert": Family("hubert", hubert.build),
    "sew": Family("sew", sew.build),
    "speech-encoder-decoder": Family("speech_encoder_decoder", speech_encoder_decoder.build),
    "wav2vec2": Family("wav2vec2", wav2vec2.build),
}


def find(checkpoint: Checkpoint) -> Family:
    """Return the family of `checkpoint`; UnsupportedError where Sonant does not export it."""
    model_type = checkpoint.config.model_type
    if model_type not in FAMILIES:
        raise UnsupportedError(
            f"{checkpoint.source} is a {model_type!r} model; Sonant exports {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def build(checkpoint: Checkpoint, options: Options | None = None) -> Exportable:
    """Make the exportable of `checkpoint`; UnsupportedError where its family, class or an option is not exported."""
    family, options = find(checkpoint), options or Options()
    if options.variant is not None and options.variant not in family.variants:
        there = ", ".join(family.variants) or "none"
        raise UnsupportedError(f"--variant {options.variant}: {checkpoint.source} has the variants: {there}")
    head = read_head(options.head) if options.head else None
    exportable = family.build(checkpoint, options)
    return add_head(exportable, head) if head else exportable
