from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from engines.engine import Engine
    from tests.zoo import Kind, Specimen

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


@dataclass(frozen=True)
class Exported:
    """The specimens that every run of the tests exports, by "FAMILY, NAME"; each when it is first asked for."""

    folder: Path
    kinds: dict[str, Kind]  # by the name of the specimen
    specimens: dict[str, Specimen]

    def checkpoint(self, name: str) -> Path:
        """The checkpoint of a specimen."""
        folder, specimen = self.folder / "checkpoints" / slug(name), self.specimens[name]
        if not folder.exists():
            self.kinds[name].write(folder, specimen.architecture, **specimen.config)
        return folder

    def engine(self, name: str) -> Engine:
        """The engine of a specimen."""
        from engines.engine import Engine
        from export.exporter import DEFAULT_OUTPUTS, export

        folder, options = self.folder / "models" / slug(name), self.specimens[name].options
        if not folder.exists():
            outputs = (*DEFAULT_OUTPUTS, *["attentions"] * options.attentions)
            export(str(self.checkpoint(name)), folder, variant=options.variant, outputs=outputs, max_seconds=20)
        return Engine(folder)

    def models(self) -> Path:
        """The folder of all their engines."""
        for name in self.specimens:
            self.engine(name)
        return self.folder / "models"


def slug(name: str) -> str:
    """Return `name` as that of a folder."""
    return "-".join(name.replace(",", "").split())


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Every family's specimens. Do not change them."""
    from tests.zoo import kinds

    pairs = [(f"{kind.name}, {name}", kind, one) for kind in kinds().values() for name, one in kind.exports.items()]
    return Exported(
        tmp_path_factory.mktemp("exports"),
        {name: kind for name, kind, _ in pairs},
        {name: specimen for name, _, specimen in pairs},
    )
