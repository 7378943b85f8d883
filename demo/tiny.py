"""The tiny engine that `sonant doctor` runs: a random encoder of the smallest kind, exported as any other.

`python -m demo.tiny` writes it anew into sonant/doctor/tiny, with all forms; with the same versions of what exports,
byte for byte the same graphs and weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from engines.engine import Engine
from engines.manifest import Precision, RuntimeName
from export import golden
from export.exporter import export
from sonant.doctor.providers import ENGINE

# One of each kind of layer that encoders have, frames of 20 ms: the sizes are the least that still differ from each
# other, for a runtime that mixes up two axes to be found out.
CONFIG: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (12, 12, 12),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (5, 8, 8),
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
}
# Of the golden clips: 7, 4 and 1 frames, in 17 kB.
LONGEST_SECONDS = 0.15
OUTPUTS = ("embeddings", "pooled")
# Weights are multiples of it, which every precision but int8 has exactly: what a form computes differs by its own
# arithmetic alone. The scale is near that of a trained encoder's.
STEP, STEPS = 2**-7, 32


def make(folder: Path, precisions: Sequence[Precision], runtimes: Sequence[RuntimeName]) -> Engine:
    """Write the engine, with its forms, into `folder`; what is there is replaced."""
    with tempfile.TemporaryDirectory() as parent, patch.object(golden, "LONGEST_SECONDS", LONGEST_SECONDS):
        checkpoint = Path(parent) / "tiny"
        write_checkpoint(checkpoint)
        return export(
            str(checkpoint),
            folder,
            outputs=OUTPUTS,
            max_seconds=10,
            precisions=precisions,
            runtimes=runtimes,
            force=True,
        )


def write_checkpoint(folder: Path) -> None:
    """Write a checkpoint whose weights are drawn as integers, which come out the same on every processor."""
    generator = np.random.default_rng(0)
    model = HubertModel(HubertConfig(**CONFIG))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            drawn = STEP * generator.integers(-STEPS, STEPS + 1, parameter.shape)
            is_scale = name.endswith(("norm.weight", "original0"))  # of a norm, and of weights by direction and size
            parameter.copy_(torch.from_numpy(drawn + is_scale))
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)


def main() -> None:
    """Write the engine that comes with the package."""
    parser = argparse.ArgumentParser(description="Write the tiny engine that `sonant doctor` runs.")
    parser.add_argument("--output", type=Path, default=ENGINE)
    # Not int8: a model of this size has no product that is worth it.
    parser.add_argument("--precision", nargs="+", choices=get_args(Precision), default=("fp32", "fp16", "bf16"))
    parser.add_argument("--runtimes", nargs="+", default=("onnxruntime", "openvino"))
    arguments = parser.parse_args()
    engine = make(arguments.output, arguments.precision, arguments.runtimes)
    for checks in engine.checks.values():
        for check in checks:
            print(f"{check.graph} {check.output}: error {check.error:.1e}, bound {check.bound:.1e}")
    print(f"{sum(file.stat().st_size for file in engine.folder.iterdir())} bytes in {engine.folder}")


if __name__ == "__main__":
    main()
