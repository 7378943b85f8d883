from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.engine import Engine
from engines.runtimes import RuntimeOptions, find
from engines.runtimes.onnxruntime.session import OnnxSession, placed
from tests.support import noise

DEMO = Path(__file__).parents[4] / "demo" / "engines" / "hubert-ctc-english"


@pytest.fixture(scope="module")
def session() -> OnnxSession:
    found = find("onnxruntime").load(DEMO, Engine(DEMO).full_graph, RuntimeOptions("cpu", 1))
    assert isinstance(found, OnnxSession)
    return found


def test_what_is_bound_comes_out_as_what_is_given(session: OnnxSession) -> None:
    waveform, lengths = np.stack([noise(4000)] * 2), np.array([4000, 3000])
    arrays = session.run(waveform, lengths, ["logits", "pooled"])
    assert list(arrays) == ["logits", "pooled"]
    given = {"waveform": session.place(waveform), "lengths": session.place(lengths)}
    values = session.compute(given, ["pooled", "logits"])
    assert list(values) == ["pooled", "logits"]
    assert all((values[name].numpy() == arrays[name]).all() for name in arrays)


def test_what_is_kept_is_selected() -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    value = placed(array, "cpu")
    assert np.shares_memory(value.numpy(), array)
    assert (value.select(np.array([1]), 2).numpy() == array[[1], :, :2]).all()
