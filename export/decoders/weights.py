"""A checkpoint's tensors -> those of a decoder's modules."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from export.decoders.config import DecoderConfig, State
from export.decoders.step import CrossKeys, Step
from export.errors import CheckpointError

_CROSS = re.compile(r"layers\.(\d+)\.cross_attention\.(key|value)\.(.+)")


def renamed(state: State, stem: str, layer: Mapping[str, str], others: Mapping[str, str]) -> dict[str, Tensor]:
    """Return `state` under the names of `Step`; CheckpointError names a tensor that has no place there.

    The parts of layer N stand in `state` below STEM.N., under names that `layer` translates; `others` translates those
    of all other modules.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if module in others:
            found[f"{others[module]}.{kind}"] = tensor
            continue
        index, _, part = module.removeprefix(f"{stem}.").partition(".")
        if not name.startswith(f"{stem}.") or part not in layer:
            raise CheckpointError(f"the decoder has the weight {name}, which Sonant has no place for")
        found[f"layers.{index}.{layer[part]}.{kind}"] = tensor
    return found


def load(named: Mapping[str, Tensor], config: DecoderConfig, cross: CrossKeys) -> Step:
    """Return the step with the tensors of `named`, and put those of the cross attention's keys and values into `cross`.

    Logits without a bias get one of zeros. A head with the weights of the token embeddings shares them.
    """
    step = Step(config).float()
    own: dict[str, Tensor] = {"head.bias": torch.zeros(config.vocabulary_size)}
    shared = {name: tensor for name, tensor in cross.state_dict().items() if name.startswith("projection.")}
    for name, tensor in named.items():
        match = _CROSS.fullmatch(name)
        if match:
            shared[f"{match[2]}s.{match[1]}.{match[3]}"] = tensor
        else:
            own[name] = tensor
    cross.load_state_dict(shared, strict=True)
    step.load_state_dict(own, strict=True)
    step.share()
    return step.eval()
