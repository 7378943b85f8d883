from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import models, record
from benchmarks.gpu import subjects
from benchmarks.gpu.command import main
from benchmarks.machine import ROOT
from benchmarks.record import Record
from benchmarks.records.gpu import GpuLoad, GpuParity, GpuShapes, GpuSpeed, ParityCell

SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def dry_run(scenario: str, cache: Path, tmp_path: Path) -> Record:
    output = tmp_path / "result.json"
    assert main([scenario, "--dry-run", "--cache", str(cache), "--output", str(output)]) == 0
    result = record.read(output)
    header, rows = result.table
    assert rows
    assert {len(row) for row in rows} == {len(header)}
    assert "dry run" in result.title
    assert result.summary
    return result


@pytest.mark.usefixtures("results")
def test_engines_are_timed_beside_torch(cache: Path, tmp_path: Path) -> None:
    result = dry_run("speed", cache, tmp_path)
    assert isinstance(result, GpuSpeed)
    assert [cell.contestant for cell in result.cells] == ["sonant fp32", "torch eager fp32"] * 4
    for cell in result.cells:
        assert cell.error <= 1e-4
        assert cell.rtfx == pytest.approx(cell.seconds * cell.batch / cell.time.median_ms * 1e3)
        assert 0 < cell.share < math.inf
    assert result.matrix_rates["fp32"] > 0


@pytest.mark.usefixtures("results")
def test_every_search_has_its_first_costs(cache: Path, tmp_path: Path) -> None:
    result = dry_run("shapes", cache, tmp_path)
    assert isinstance(result, GpuShapes)
    assert [cell.search for cell in result.cells] == ["heuristic", "default", "exhaustive"]
    assert all(cell.first_ms > 0 and cell.cycled_ms > 0 and cell.load_seconds > 0 for cell in result.cells)


@pytest.mark.slow
@pytest.mark.usefixtures("results")
def test_a_server_is_kept_busy(cache: Path, tmp_path: Path) -> None:
    result = dry_run("load", cache, tmp_path)
    assert isinstance(result, GpuLoad)
    assert result.batches > 0
    assert result.clips_per_batch >= 1
    assert 0 <= result.padded_share < 0.2
    assert result.audio_seconds > 0


@pytest.mark.slow
def test_a_family_is_compared_with_torch(cache: Path, tmp_path: Path) -> None:
    result = dry_run("parity", cache, tmp_path)
    assert isinstance(result, GpuParity)
    (cell,) = result.cells
    assert (cell.family, cell.form, cell.elsewhere) == ("hubert", "onnxruntime/fp32", 0)
    assert cell.ok
    assert not cell.failure
    assert cell.equal_rows <= 1e-6
    assert max(cell.golden, cell.on_cpu, cell.on_device, cell.batch) > 0  # it was computed


def test_an_error_beyond_its_bound_is_told() -> None:
    fine = ParityCell(
        family="a",
        architecture="A",
        form="onnxruntime/fp16",
        golden=0.01,
        on_cpu=0.01,
        on_device=0.01,
        batch=0.01,
        equal_rows=0.0,
        bound=0.02,
        elsewhere=0,
    )
    assert fine.ok
    for name in ("golden", "on_cpu", "on_device", "batch"):
        assert not fine.model_copy(update={name: 0.03}).ok
        assert not fine.model_copy(update={name: float("nan")}).ok


@pytest.mark.usefixtures("results")
def test_operations_are_counted_and_torch_computes_what_engines_do(cache: Path) -> None:
    encoder = subjects.TorchEncoder(subjects.checkpoint_of("tiny", cache), "cpu", "fp32")
    clips = models.clips(2, 1.0, 16_000, 0)
    one, two = (encoder.operations(encoder.features(clips[:count])) for count in (1, 2))
    assert two == 2 * one > 0
    engine = subjects.open_form(subjects.prepare("tiny", ("fp32",), cache, lambda step: None), "cpu", "fp32")
    for row, truth in zip(engine.run(clips, ["embeddings"]), encoder(encoder.features(clips)), strict=True):
        assert np.allclose(row["embeddings"], truth, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host has a GPU")
def test_without_a_gpu_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed"]) == 1
    assert "--dry-run shows that it runs" in capsys.readouterr().err


def test_the_script_knows_its_steps(tmp_path: Path) -> None:
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [SCRIPT, "--dry-run", "no-such-step"], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "no step no-such-step, only parity speed-hubert-large" in done.stderr
