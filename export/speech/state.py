"""A transformers encoder's state dict, as `SpeechEncoder` loads it."""

from __future__ import annotations

from torch import Tensor

from export.feed_forward import in_pieces

# SEW has the parts of its feature projection in the model itself.
MOVED = {
    "layer_norm.weight": "feature_projection.layer_norm.weight",
    "layer_norm.bias": "feature_projection.layer_norm.bias",
    "feature_projection.weight": "feature_projection.projection.weight",
    "feature_projection.bias": "feature_projection.projection.bias",
}

# Whose convolution may be one with its norm.
FIRST = "feature_extractor.conv_layers.0"


def adapt_state(state: dict[str, Tensor], *, is_normalized: bool) -> dict[str, Tensor]:
    """Return a transformers encoder's state dict as `SpeechEncoder` loads it: each tensor in the shape it has here."""
    adapted: dict[str, Tensor] = {}
    for key, tensor in in_pieces(fold_weight_norm(state)).items():
        if ".conv_layers." in key and key.endswith(".conv.weight"):
            adapted[key] = tensor[:, :, None, :]
        else:
            adapted[MOVED.get(key, key)] = tensor
    if is_normalized:
        adapted.pop(f"{FIRST}.conv.bias", None)  # its norm takes away what is added to a channel
        for name in ("weight", "bias"):
            adapted[f"{FIRST}.conv.norm_{name}"] = adapted.pop(f"{FIRST}.layer_norm.{name}")
    return adapted


def fold_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with each weight norm's pair of tensors replaced by the weight that they stand for."""
    folded = dict(state)
    suffix = ".parametrizations.weight.original0"
    for key in [key for key in state if key.endswith(suffix)]:
        prefix = key.removesuffix(suffix)
        gain, direction = folded.pop(key), folded.pop(f"{prefix}.parametrizations.weight.original1")
        axes = [axis for axis in range(direction.ndim) if gain.shape[axis] == 1]
        norm = direction.double().square().sum(axes, keepdim=True).sqrt()
        folded[f"{prefix}.weight"] = (direction.double() * (gain.double() / norm)).to(direction.dtype)
    return folded
