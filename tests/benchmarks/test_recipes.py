from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from benchmarks import recipes


# In millions: as the papers of SEW (table 1) and AST and the cards of the others state them.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("wav2vec2-base", 94.4),
        ("hubert-base", 94.4),
        ("hubert-large", 315.4),
        ("sew-tiny", 40.7),
        ("sew-small", 89.6),
        ("sew-mid", 78.8),
    ],
)
def test_parameters_are_those_of_the_published_checkpoint(name: str, millions: float) -> None:
    recipe = recipes.RECIPES[name]
    with torch.device("meta"):
        network = getattr(transformers, recipe.architecture)(recipe.config())
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


def test_a_checkpoint_is_made_once(tmp_path: Path) -> None:
    steps: list[str] = []
    first = recipes.make("tiny", tmp_path, steps.append)
    assert (first / "model.safetensors").is_file()
    assert recipes.make("tiny", tmp_path, steps.append) == first
    assert len(steps) == 1
