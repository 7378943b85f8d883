"""Decoders with cross attention: from a token, and what was kept of those before it, to the logits of the next.

One body for all of them; what differs is its `DecoderConfig` and where a checkpoint keeps the weights, in one module
per kind. The keys and values of the cross attention are computed once per clip, by `CrossKeys` in the start graph; the
beams of a clip are rows of queries over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from export.decoders import bart, bert, gpt2
from export.decoders.config import DecoderConfig, State
from export.errors import UnsupportedError


@dataclass(frozen=True)
class DecoderKind:
    """A kind of decoder: what translates its configuration and its weights."""

    config: Callable[[Any], DecoderConfig]
    state: Callable[[State], dict[str, Tensor]]


_ROBERTA = DecoderKind(bert.roberta_config, bert.roberta_state)
# By `model_type` of the decoder in config.json.
DECODERS = {
    "bart": DecoderKind(bart.bart_config, bart.bart_state),
    "bert": DecoderKind(bert.bert_config, bert.bert_state),
    "camembert": _ROBERTA,
    "gpt2": DecoderKind(gpt2.gpt2_config, gpt2.gpt2_state),
    "mbart": DecoderKind(bart.mbart_config, bart.bart_state),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def find(model_type: str) -> DecoderKind:
    """Return the kind of decoder; UnsupportedError names one that Sonant does not export."""
    if model_type not in DECODERS:
        raise UnsupportedError(f"config.json: the decoder is a {model_type!r}; Sonant exports {', '.join(DECODERS)}")
    return DECODERS[model_type]
