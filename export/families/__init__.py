"""One module per model family, each with a function `build`, and the table that finds it."""

from __future__ import annotations

from collections.abc import Callable

from export.checkpoint import Checkpoint
from export.errors import UnsupportedError
from export.exportable import Exportable
from export.families import hubert

# By `model_type` of config.json.
FAMILIES: dict[str, Callable[[Checkpoint], Exportable]] = {
    "hubert": hubert.build,
}


def build(checkpoint: Checkpoint) -> Exportable:
    """Make the exportable of `checkpoint`; UnsupportedError where its family or class is not exported."""
    model_type = checkpoint.config.model_type
    if model_type not in FAMILIES:
        raise UnsupportedError(
            f"{checkpoint.source} is a {model_type!r} model; Sonant exports {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type](checkpoint)
