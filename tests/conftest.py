from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)  # tiny models: more threads only wait for each other
settings.register_profile(
    "sonant", deadline=None, derandomize=True, print_blob=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("sonant")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three random checkpoints: `tiny-base`, `tiny-ctc`, `tiny-classifier`."""
    from tests.support import make_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints")
    make_checkpoint(folder / "tiny-base", "HubertModel", seed=1, feat_extract_norm="layer", do_stable_layer_norm=True)
    make_checkpoint(folder / "tiny-ctc", "HubertForCTC", seed=2)
    make_checkpoint(
        folder / "tiny-classifier",
        "HubertForSequenceClassification",
        seed=3,
        use_weighted_layer_sum=True,
        id2label={0: "yes", 1: "no", 2: "perhaps"},
        label2id={"yes": 0, "no": 1, "perhaps": 2},
    )
    return folder


@pytest.fixture(scope="session")
def models(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the engine of each checkpoint; `tiny-ctc` has a truncated graph after layer 1. Do not change it."""
    from export.exporter import export

    folder = tmp_path_factory.mktemp("models")
    for checkpoint in sorted(checkpoints.iterdir()):
        layers = (1,) if checkpoint.name == "tiny-ctc" else ()
        export(str(checkpoint), folder / checkpoint.name, layers=layers, max_seconds=20)
    return folder
