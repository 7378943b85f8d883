from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
import torch
from filelock import FileLock
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from engines.engine import Engine
    from tests.zoo import Kind, Specimen

T = TypeVar("T")

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)  # tiny models: more threads only wait for each other
settings.register_profile(
    "sonant", deadline=None, derandomize=True, print_blob=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("sonant")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Make `folder` in the process that comes first; the others wait for it. It appears when all of it is there."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.exists():
                partial = folder.with_name(f".{folder.name}")
                make(partial)
                partial.rename(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoints(shared: Path) -> Path:
    """Three random checkpoints: `tiny-base`, `tiny-ctc`, `tiny-classifier`."""
    return once(shared / "checkpoints", write_checkpoints)


def write_checkpoints(folder: Path) -> None:
    from tests.support import make_checkpoint

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


@pytest.fixture(scope="session")
def models(checkpoints: Path, shared: Path) -> Path:
    """A folder with the engine of each checkpoint; `tiny-ctc` has a truncated graph after layer 1. Do not change it."""
    from export.exporter import export

    def make(checkpoint: Path, folder: Path) -> None:
        layers = (1,) if checkpoint.name == "tiny-ctc" else ()
        export(str(checkpoint), folder, layers=layers, max_seconds=20)

    for checkpoint in shuffled(sorted(checkpoints.iterdir())):
        once(shared / "models" / checkpoint.name, partial(make, checkpoint))
    return shared / "models"


def shuffled(things: Sequence[T]) -> Sequence[T]:
    """Return `things` in the order of this process: so several do not wait for one another, but share the work."""
    return random.Random(os.environ.get("PYTEST_XDIST_WORKER")).sample(things, len(things))


@dataclass(frozen=True)
class Exported:
    """The specimens that every run of the tests exports, by "FAMILY, NAME"; each when it is first asked for."""

    folder: Path
    kinds: dict[str, Kind]  # by the name of the specimen
    specimens: dict[str, Specimen]

    def checkpoint(self, name: str) -> Path:
        """The checkpoint of a specimen."""
        kind, specimen = self.kinds[name], self.specimens[name]
        folder = self.folder / "checkpoints" / slug(name)
        return once(folder, lambda folder: kind.write(folder, specimen.architecture, **specimen.config))

    def engine(self, name: str) -> Engine:
        """The engine of a specimen."""
        from engines.engine import Engine
        from export.exporter import export
        from export.outputs import DEFAULT_OUTPUTS

        checkpoint, options = self.checkpoint(name), self.specimens[name].options
        outputs = (*DEFAULT_OUTPUTS, *["attentions"] * options.attentions)

        def make(folder: Path) -> None:
            export(str(checkpoint), folder, variant=options.variant, outputs=outputs, max_seconds=20)

        return Engine(once(self.folder / "models" / slug(name), make))

    def models(self) -> Path:
        """The folder of all their engines."""
        for name in shuffled(list(self.specimens)):
            self.engine(name)
        return self.folder / "models"


def slug(name: str) -> str:
    """Return `name` as that of a folder."""
    return "-".join(name.replace(",", "").split())


@pytest.fixture(scope="session")
def exports(shared: Path) -> Exported:
    """Every family's specimens. Do not change them."""
    from tests.zoo import kinds

    pairs = [(f"{kind.name}, {name}", kind, one) for kind in kinds().values() for name, one in kind.exports.items()]
    return Exported(
        shared / "exports",
        {name: kind for name, kind, _ in pairs},
        {name: specimen for name, _, specimen in pairs},
    )
