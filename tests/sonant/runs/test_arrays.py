from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from sonant.runs.arrays import JOIN, ArrayFormat, names_in, write_npz, write_safetensors
from sonant.runs.outcomes import Array, Outcome

FRAMES = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
OUTCOME = Outcome(1.5, arrays=[Array(FRAMES, None, 50.0)])
LAYERS = Outcome(1.5, arrays=[Array(FRAMES.astype(np.float16), 3, 50.0), Array(FRAMES[::2], 6, 25.0)])


def test_npz(tmp_path: Path) -> None:
    with (tmp_path / "x.npz").open("wb") as file:
        write_npz(file, OUTCOME)
    found = np.load(tmp_path / "x.npz")
    np.testing.assert_array_equal(found["embedding"], FRAMES)
    assert (found["duration"], found["frame_rate"]) == (1.5, 50.0)
    with (tmp_path / "x.npz").open("wb") as file:
        write_npz(file, LAYERS)
    assert set(np.load(tmp_path / "x.npz").files) == {"layer3", "layer6", "duration"}


def test_safetensors(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        write_safetensors(file, LAYERS)
    found = load_file(tmp_path / "x")
    np.testing.assert_array_equal(found["layer6"], FRAMES[::2])
    assert found["layer3"].dtype == np.float16
    with safe_open(tmp_path / "x", framework="numpy") as opened:
        assert opened.metadata() == {"duration": "1.5"}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_many_clips_in_one_file(tmp_path: Path, kind: ArrayFormat) -> None:
    parts = {}
    for name, outcome in (("a.wav", OUTCOME), ("sub/b.wav", LAYERS)):
        parts[name] = tmp_path / name.replace("/", "-")
        with parts[name].open("wb") as file:
            write_safetensors(file, outcome)
    path = tmp_path / f"all.{kind}"
    with path.open("wb") as file:
        JOIN[kind](file, parts)
    found = dict(np.load(path)) if kind == "npz" else load_file(path)
    assert set(found) == names_in(path, kind) == {"a.wav", "sub/b.wav.layer3", "sub/b.wav.layer6"}
    np.testing.assert_array_equal(found["a.wav"], FRAMES)
    np.testing.assert_array_equal(found["sub/b.wav.layer3"], FRAMES.astype(np.float16))
    np.testing.assert_array_equal(found["sub/b.wav.layer6"], FRAMES[::2])


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_what_is_no_file_of_arrays_is_said(tmp_path: Path, kind: ArrayFormat) -> None:
    (tmp_path / "x").write_bytes(b"dear diary")
    with pytest.raises(ValueError, match=f"is no {kind} file"):
        names_in(tmp_path / "x", kind)
