from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.manifest import Precision
from export import checkpoint as checkpoints
from export import families, golden
from export.errors import ParityError
from export.exportable import Exportable
from export.parity import CEILING, GAP_FACTOR, LIMITS, TOLERANCE, Remembered, check, cosine, worst_excess
from tests.support import make_checkpoint, noise


@pytest.fixture(scope="module")
def exportable(tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    folder = make_checkpoint(tmp_path_factory.mktemp("checkpoint"), num_hidden_layers=2)
    return families.build(checkpoints.resolve(str(folder)))


def test_the_reference_agrees_with_itself(exportable: Exportable) -> None:
    clip = noise(5000)
    _, found, bound = worst_excess(exportable.reference(clip), exportable.reference, clip)
    assert (found, bound) == (0, TOLERANCE)


def test_the_bound_widens_only_with_the_reference_s_own_gap(exportable: Exportable) -> None:
    clip = noise(5000)
    truth = exportable.reference(clip)
    off = {"embeddings": truth["embeddings"] * np.float32(1 + 1e-4)}
    name, found, bound = worst_excess(off, exportable.reference, clip)
    exact = exportable.reference(clip, torch.float64)["embeddings"]
    gap = float(np.abs(truth["embeddings"] - exact).max() / np.abs(exact).max())
    assert name == "embeddings"
    assert found == pytest.approx(1e-4, rel=0.01)
    assert bound == pytest.approx(max(TOLERANCE, GAP_FACTOR * gap))
    with pytest.raises(ParityError, match="embeddings differs from transformers"):
        check([off], exportable.reference, [clip])


def test_a_reference_that_is_wrong_in_fp64_lets_nothing_pass(exportable: Exportable) -> None:
    clip = noise(5000)
    good = exportable.reference(clip)

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        return good if dtype == torch.float32 else {name: 2 * array for name, array in good.items()}

    _, found, bound = worst_excess({"pooled": good["pooled"] * np.float32(1.01)}, reference, clip)
    assert bound == CEILING < found


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_checkpoint_that_gives_nan_is_refused(
    exportable: Exportable, tmp_path: Path, place: str, value: float
) -> None:
    clip = noise(5000)
    good = exportable.reference(clip)

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        truth = {name: array.copy() for name, array in good.items()}
        truth["embeddings"].flat[0 if place == "first" else -1] = value
        return truth

    with pytest.raises(ParityError, match="the checkpoint itself gives NaN or infinity: embeddings"):
        worst_excess(good, reference, clip)
    with pytest.raises(ParityError, match="the checkpoint itself gives NaN"):
        golden.write(tmp_path / "golden.safetensors", [clip], reference, ["pooled"])


def test_a_reference_that_is_not_finite_in_fp64_widens_no_bound(exportable: Exportable) -> None:
    clip = noise(5000)
    good = exportable.reference(clip)

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        return good if dtype == torch.float32 else {name: array * np.nan for name, array in good.items()}

    with pytest.raises(ParityError, match="the checkpoint itself gives NaN"):
        worst_excess({"embeddings": good["embeddings"] * 2}, reference, clip)


@pytest.mark.parametrize("place", [0, -1])
def test_a_graph_that_gives_nan_is_refused(exportable: Exportable, place: int) -> None:
    clip = noise(5000)
    row = {name: array.copy() for name, array in exportable.reference(clip).items()}
    row["pooled"].flat[place] = np.nan
    with pytest.raises(ParityError, match="pooled differs from transformers by inf"):
        check([row], exportable.reference, [clip])


@pytest.mark.parametrize("precision", sorted(LIMITS))
def test_a_lower_precision_has_limits_of_its_own(precision: Precision) -> None:
    clip, limit = noise(5000), LIMITS[precision]
    truth = np.array([20.0] + 50 * [0.5, -0.5], np.float32)  # one large value, as the frames of transformers have

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        return {"embeddings": truth}

    near = {"embeddings": truth * np.float32(1 + 0.9 * limit.error)}
    assert check([near], reference, [clip], precision)["embeddings"] == pytest.approx(1)
    far = {"embeddings": truth * np.float32(1 + 1.1 * limit.error)}
    with pytest.raises(ParityError, match=f"{precision}: embeddings differs .* leave {precision} out of --precision"):
        check([far], reference, [clip], precision)
    turned = {"embeddings": truth + np.float32(0.9 * limit.error * 20)}
    with pytest.raises(ParityError, match=f"{precision}: embeddings has a cosine of"):
        check([turned], reference, [clip], precision)


def test_what_is_no_number_is_beyond_every_limit(exportable: Exportable) -> None:
    clip = noise(5000)
    truth = exportable.reference(clip)["embeddings"]
    with pytest.raises(ParityError, match="differs from transformers by inf"):
        check([{"embeddings": np.full_like(truth, np.nan)}], exportable.reference, [clip], "int8")


def test_the_cosine_of_arrays() -> None:
    a = np.array([[3.0, 4.0]])
    assert cosine(a, a) == pytest.approx(1)
    assert cosine(a, -a) == pytest.approx(-1)
    assert cosine(np.array([[4.0, -3.0]]), a) == pytest.approx(0)
    assert cosine(np.zeros((1, 2)), a) == 0
    assert cosine(a * 1e-9, a * -1e-9) == 1


def test_the_truth_of_a_clip_is_computed_once() -> None:
    asked: list[tuple[int, torch.dtype]] = []

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        asked.append((len(clip), dtype))
        return {"embeddings": clip.astype(np.float64) * len(asked)}

    known, other = noise(5), noise(7)
    remembered = Remembered(reference, [known])
    assert remembered(known)["embeddings"] is remembered(known)["embeddings"]
    remembered(known, torch.float64)
    remembered(other)
    remembered(other)
    assert asked == [(5, torch.float32), (5, torch.float64), (7, torch.float32), (7, torch.float32)]
