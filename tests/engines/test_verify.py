from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engines.engine import Engine
from engines.manifest import MANIFEST_NAME, Manifest
from engines.verify import FLOOR, POLICY, SLACK, Check, bound, error, proved, read_golden


def test_error_is_relative_to_the_largest_value() -> None:
    reference = np.array([0.0, 4.0, -8.0], np.float32)
    assert error(reference + 0.5, reference) == pytest.approx(0.5 / 8)
    assert error(reference, reference) == 0


def test_error_is_absolute_where_the_reference_is_silent() -> None:
    silence = np.full(3, 1e-4, np.float32)
    assert error(silence + np.float32(1e-5), silence) == pytest.approx(1e-5, rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_wrong(value: float) -> None:
    assert error(np.array([1.0, value]), np.ones(2)) == float("inf")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(3))
def test_a_reference_that_is_not_finite_proves_nothing(value: float, place: int) -> None:
    reference = np.ones(3)
    reference[place] = value
    assert error(np.ones(3), reference) == error(reference, reference) == float("inf")


def test_another_shape_is_infinitely_wrong() -> None:
    assert error(np.ones((3, 2)), np.ones((2, 2))) == float("inf")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_check_without_a_number_is_not_ok(value: float) -> None:
    checks = [Check("fp32", "embeddings", value, 0.0, 1e-5), Check("fp32", "embeddings", 0.0, value, 1e-5)]
    assert not any(check.ok for check in checks)
    assert not any(np.isfinite(check.error) for check in checks)
    assert not Check("fp32", "embeddings", 0.0, 0.0, float("nan")).ok


def test_a_graph_is_proved_by_checks_that_are_all_within_their_bounds() -> None:
    good, bad = Check("fp32", "embeddings", 1e-6, 1e-5, 1e-5), Check("fp32", "logits", 1e-6, 2e-5, 1e-5)
    assert proved([good])
    assert not proved([good, bad])
    assert not proved([])


def test_bound_is_four_times_what_was_measured_within_the_policy(models: Path) -> None:
    graph = Engine(models / "tiny-ctc").full_graph
    assert bound(graph.model_copy(update={"errors": {"a": 8e-6}}), "a") == SLACK * 8e-6
    assert bound(graph.model_copy(update={"errors": {"a": 0.0}}), "a") == SLACK * FLOOR
    assert bound(graph.model_copy(update={"errors": {"a": 1.0}}), "a") == POLICY["fp32"]


def test_golden_clips_are_short_and_few(models: Path) -> None:
    for name in ("tiny-ctc", "tiny-classifier", "tiny-base"):
        manifest = Manifest.read(models / name)
        golden = read_golden(models / name, manifest)
        assert 3 <= len(golden) <= 4
        assert max(len(clip) for clip, _ in golden) <= 3 * manifest.sample_rate
        assert (models / name / manifest.golden.file).stat().st_size <= 5_000_000
        assert {"embeddings", "pooled"} <= set(manifest.golden.outputs)
    assert "hidden_states.1" in Manifest.read(models / "tiny-ctc").golden.outputs


def test_a_graph_with_dependent_rows_is_replayed_clip_by_clip(models: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models / "tiny-base", tmp_path / "engine"))
    path = folder / MANIFEST_NAME
    data = json.loads(path.read_text())
    data["graphs"][0]["max_rows"] = 1
    path.write_text(json.dumps(data))
    engine = Engine(folder)
    engine.load(engine.full_graph)
    assert all(check.alone == check.batch for check in engine.checks["fp32"])
    clips = [np.ones(4000, np.float32), np.zeros(5000, np.float32)]
    rows = engine.run(clips, ["embeddings"])
    assert [len(row["embeddings"]) for row in rows] == [
        len(engine.run([c], ["embeddings"])[0]["embeddings"]) for c in clips
    ]
