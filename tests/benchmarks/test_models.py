from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import models


def test_clips_are_seeded_and_differ() -> None:
    first, second = models.clips(2, 0.5, 16000, seed=4)
    assert first.shape == second.shape == (8000,)
    assert first.dtype == np.float32
    assert not np.array_equal(first, second)
    assert np.array_equal(first, models.clips(2, 0.5, 16000, seed=4)[0])


@pytest.mark.usefixtures("results")
def test_an_engine_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "export", None)  # would fail if it were called
    subject = models.prepare("tiny", None, (), cache, lambda step: None)
    assert [graph.layers for graph in subject.manifest.graphs] == [2, 0, 1]


@pytest.mark.usefixtures("results")
def test_an_engine_of_another_exporter_is_not_measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exported(Exception):  # noqa: N818
        pass

    def export(*arguments: object, **settings: object) -> None:
        raise Exported

    monkeypatch.setattr(models, "export", export)
    monkeypatch.setattr(models, "sources", lambda: "changed")
    with pytest.raises(Exported):
        models.prepare("tiny", None, (), cache, lambda step: None)


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.default_cache() == tmp_path / "sonant" / "benchmarks"
