"""Every family and head through the same checks, against transformers on one unpadded clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.verify import error
from export import checkpoint as checkpoints
from export import families
from export.exportable import Exportable
from export.exporter import export
from export.parity import TOLERANCE
from tests.conftest import Exported
from tests.export.exactness import assert_engine_exact, assert_exact, run
from tests.support import noise
from tests.zoo import Kind, Specimen, kinds

KINDS = kinds()
# As many for each family as show what a change breaks; `make test-all` draws a hundred times as many.
FEW, MANY = 8, 600
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
each_family = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
each_class = pytest.mark.parametrize(
    ("kind", "architecture"),
    [pytest.param(kind, name, id=name) for kind in KINDS.values() for name in kind.architectures],
)


def build(folder: Path, kind: Kind, specimen: Specimen) -> Exportable:
    checkpoint = kind.write(folder, specimen.architecture, **specimen.config)
    return families.build(checkpoints.resolve(str(checkpoint)), specimen.options)


def check_random(folder: Path, data: st.DataObject, kind: Kind, architecture: str) -> None:
    config = data.draw(kind.configurations)
    exportable = build(folder, kind, Specimen(architecture, config))
    shortest = exportable.min_samples
    lengths = data.draw(st.lists(st.integers(shortest, kind.longest(config, shortest)), min_size=1, max_size=3))
    clips = [noise(length, seed=index) for index, length in enumerate([shortest, *lengths])]
    assert_exact(exportable, clips, widened=True)


@each_class
@settings(relaxed, max_examples=FEW)
@given(data=st.data())
def test_random_configurations(tmp_path: Path, data: st.DataObject, kind: Kind, architecture: str) -> None:
    check_random(tmp_path, data, kind, architecture)


@pytest.mark.slow
@each_class
@settings(relaxed, max_examples=MANY)
@given(data=st.data())
def test_many_random_configurations(tmp_path: Path, data: st.DataObject, kind: Kind, architecture: str) -> None:
    check_random(tmp_path, data, kind, architecture)


@pytest.fixture(scope="module", params=KINDS)
def edges(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, Exportable]:
    kind = KINDS[request.param]
    return kind, build(tmp_path_factory.mktemp(f"edges-{kind.name}"), kind, kind.edges)


def test_every_length_around_the_edges_of_frames(edges: tuple[Kind, Exportable]) -> None:
    kind, exportable = edges
    assert exportable.min_samples == min(kind.edge_lengths)
    assert_exact(exportable, [noise(length, seed=length) for length in kind.edge_lengths])


def test_long_clips(edges: tuple[Kind, Exportable]) -> None:
    kind, exportable = edges
    for seconds in kind.seconds:
        longest = exportable.max_samples or 10**9
        assert_exact(exportable, [noise(min(seconds * 16000 + 3, longest), seed=seconds), noise(16000)])


@pytest.mark.parametrize(
    "clip",
    [
        np.zeros(8000, np.float32),
        np.full(8000, 0.5, np.float32),
        np.full(8000, 0.5, np.float32) + noise(8000, scale=1e-4),
        np.clip(20 * noise(8000), -1, 1),
        np.sin(np.arange(8000) * 0.35).astype(np.float32),
        noise(8000, scale=1e-6),
    ],
    ids=["silence", "DC", "DC with faint noise", "clipping", "tone", "faint"],
)
def test_hard_signals(edges: tuple[Kind, Exportable], clip: NDArray[np.float32]) -> None:
    assert_exact(edges[1], [clip, noise(12345)])


def test_the_reference_in_fp64_is_that_in_fp32(edges: tuple[Kind, Exportable]) -> None:
    reference, clip = edges[1].reference, noise(12345)
    single, double = reference(clip), reference(clip, torch.float64)
    assert set(single) == set(double)
    for name, array in single.items():
        assert double[name].dtype == np.float64, name
        assert error(array, double[name]) <= TOLERANCE, name


def test_a_clip_without_a_frame_does_not_disturb_its_neighbours(edges: tuple[Kind, Exportable]) -> None:
    exportable = edges[1]
    clip = noise(9000)
    together, empty, zero = run(exportable, [clip, noise(exportable.min_samples - 1), noise(0)])
    (alone,) = run(exportable, [clip])
    for name, array in alone.items():
        assert error(together[name], array) <= TOLERANCE
    for row in (empty, zero):
        assert all(np.isfinite(array).all() for array in row.values())


@pytest.mark.parametrize("name", [f"{kind.name}, {name}" for kind in KINDS.values() for name in kind.exports])
def test_an_engine_computes_what_transformers_computes(exports: Exported, name: str) -> None:
    engine, options = exports.engine(name), exports.specimens[name].options
    exportable = families.build(checkpoints.resolve(str(exports.checkpoint(name))), options)
    lengths = [exportable.min_samples, 3210, 20000]
    assert_engine_exact(engine, exportable.reference, [noise(length, seed=length) for length in lengths])
    assert max(max(graph.errors.values()) for graph in engine.manifest.graphs) <= TOLERANCE


@pytest.mark.slow
@each_family
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_engines(tmp_path: Path, data: st.DataObject, kind: Kind) -> None:
    architecture = data.draw(st.sampled_from(kind.architectures))
    config = data.draw(kind.configurations)
    exportable = build(tmp_path / "checkpoint", kind, Specimen(architecture, config))
    layers = range(exportable.num_layers)
    engine = export(str(tmp_path / "checkpoint"), tmp_path / "engine", layers=layers, force=True)
    shortest = exportable.min_samples
    lengths = data.draw(st.lists(st.integers(shortest, kind.longest(config, shortest)), min_size=2, max_size=2))
    assert_engine_exact(engine, exportable.reference, [noise(n, seed=n) for n in (shortest, *lengths)])


@pytest.mark.slow
@each_family
def test_an_engine_at_the_edges_and_at_its_longest(tmp_path: Path, kind: Kind) -> None:
    exportable = build(tmp_path / "checkpoint", kind, kind.edges)
    engine = export(str(tmp_path / "checkpoint"), tmp_path / "engine", max_seconds=max(kind.seconds))
    for lengths in (kind.edge_lengths, (engine.manifest.max_samples, 16000)):
        assert_engine_exact(engine, exportable.reference, [noise(length, seed=length) for length in lengths])
