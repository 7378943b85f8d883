from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from engines.manifest import Manifest
from sonant.doctor.providers import ENGINE

BYTES = 400_000


def test_it_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in ENGINE.iterdir()}
    manifest = Manifest.read(ENGINE)
    read = {file for graph in manifest.graphs for file in graph.sha256}
    assert set(files) == read | {"engine.json", manifest.golden.file}
    assert sum(files.values()) < BYTES


@pytest.mark.slow
def test_it_comes_out_the_same(tmp_path: Path) -> None:
    from demo.tiny import make

    old = Manifest.read(ENGINE)
    precisions = list(dict.fromkeys(graph.precision for graph in old.graphs))
    runtimes = list(dict.fromkeys(graph.runtime for graph in old.graphs))
    new = make(tmp_path / "tiny", precisions, runtimes).manifest
    versions = ("torch", "transformers", "onnx-ir")
    if any(old.created[name] != new.created[name] for name in versions):
        pytest.skip("written with other versions: write it anew with `python -m demo.tiny`")
    assert [graph.name for graph in new.graphs] == [graph.name for graph in old.graphs]
    for graph in old.graphs:
        for file in graph.sha256:
            assert (tmp_path / "tiny" / file).read_bytes() == (ENGINE / file).read_bytes(), file
    # What torch computes depends on the processor, in the last digits.
    kept, made = (load_file(folder / old.golden.file) for folder in (ENGINE, tmp_path / "tiny"))
    assert kept.keys() == made.keys()
    assert all(np.allclose(kept[name], made[name], rtol=1e-4, atol=1e-5) for name in kept)
