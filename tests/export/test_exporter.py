"""Real exports, from the checkpoint to an engine folder that runs."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import HubertForCTC

from engines.engine import Engine
from engines.manifest import MANIFEST_NAME, Manifest
from engines.repository import find_engines
from engines.verify import Check, error
from export import checkpoint as checkpoints
from export import families
from export.errors import CheckpointError, ExportError, ParityError, UnsupportedError
from export.exportable import Exportable, Options
from export.exporter import export
from export.parity import TOLERANCE
from tests.export.exactness import assert_engine_exact
from tests.support import make_checkpoint, noise, write_tokenizer


def assert_exact(engine: Engine, checkpoint: Path, lengths: list[int]) -> None:
    reference = families.build(checkpoints.resolve(str(checkpoint))).reference
    assert_engine_exact(engine, reference, [noise(length, seed=length) for length in lengths])


@pytest.mark.parametrize("name", ["tiny-base", "tiny-ctc", "tiny-classifier"])
def test_engine_computes_what_transformers_computes(models: Path, checkpoints: Path, name: str) -> None:
    engine = Engine(models / name)
    shortest = engine.manifest.min_samples
    assert_exact(engine, checkpoints / name, [shortest, shortest + 1, 1601, 16000, 48123])


def test_manifest_says_what_serving_needs(models: Path) -> None:
    manifest = Engine(models / "tiny-ctc").manifest
    assert (manifest.family, manifest.tasks) == ("hubert", ("encode", "transcribe"))
    assert manifest.checkpoint.architecture == "HubertForCTC"
    assert len(manifest.checkpoint.sha256) == 64
    assert manifest.preprocessor == {"do_normalize": True, "sampling_rate": 16000}
    assert manifest.ctc is not None
    assert manifest.ctc.vocabulary[manifest.ctc.blank] == "<pad>"
    assert manifest.output("embeddings").samples_per_frame == 320
    assert manifest.hidden_states == (0, 1, 2, 3)
    assert manifest.max_samples == 20 * 16000
    assert all(graph.errors and max(graph.errors.values()) < TOLERANCE for graph in manifest.graphs)
    classifier = Engine(models / "tiny-classifier").manifest.classification
    assert classifier is not None
    assert (classifier.labels, classifier.problem_type) == (("yes", "no", "perhaps"), "single_label_classification")


def test_truncated_graph_shares_the_weights_and_stops_early(models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    full, part = engine.graphs
    assert (full.name, part.name) == ("fp32", "fp32.layers1")
    assert engine.graph_for(["hidden_states.1"]) == part
    assert engine.graph_for(["hidden_states.2"]) == engine.graph_for(["logits", "hidden_states.0"]) == full
    assert set(full.sha256) & set(part.sha256) == {"fp32.weights"}
    assert not list(engine.folder.glob("fp32.layers1.weights"))
    clip = noise(9999)
    (early,) = engine.run([clip], ["hidden_states.1"])
    (all_of_it,) = engine.run([clip], ["hidden_states.1", "embeddings"])
    assert error(early["hidden_states.1"], all_of_it["hidden_states.1"]) <= TOLERANCE


def test_an_existing_engine_is_kept_unless_forced(tmp_path: Path, models: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1)
    output = tmp_path / "models" / "engine"
    shutil.copytree(models / "tiny-base", output)
    first = Engine(output)
    with pytest.raises(ExportError, match="--force"):
        export(str(checkpoint), output)
    second = export(str(checkpoint), output, force=True)
    assert (
        first.manifest.checkpoint.sha256
        != second.manifest.checkpoint.sha256
        == Engine(output).manifest.checkpoint.sha256
    )
    assert [path.name for path in output.parent.iterdir()] == ["engine"]
    assert oct((output / "golden.safetensors").stat().st_mode & 0o777) == "0o644"


def test_a_folder_that_is_no_engine_is_never_replaced(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1)
    precious = tmp_path / "mine" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(ExportError, match="no engine"):
        export(str(checkpoint), precious.parent, force=True)
    assert precious.read_text() == "years of work"


def pretend(monkeypatch: pytest.MonkeyPatch, engine: Path, meanwhile: Callable[[], object]) -> None:
    """Make an export write a copy of `engine`, and let `meanwhile` happen."""

    def write(folder: Path, *arguments: object) -> dict[str, list[Check]]:
        shutil.copytree(engine, folder, dirs_exist_ok=True)
        meanwhile()
        return {}

    monkeypatch.setattr("export.exporter._write", write)


@pytest.mark.parametrize("force", [False, True])
def test_what_appears_while_an_export_runs_is_kept(
    tmp_path: Path, models: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    output = tmp_path / "models" / "engine"
    engine, text = output / MANIFEST_NAME, output / "thesis.txt"
    precious = text if force else engine

    def meanwhile() -> None:
        output.mkdir()
        precious.write_text("years of work")

    pretend(monkeypatch, models / "tiny-base", meanwhile)
    with pytest.raises(ExportError, match="no engine" if force else "--force"):
        export(str(checkpoints / "tiny-base"), output, force=force)
    assert precious.read_text() == "years of work"
    assert list(output.parent.iterdir()) == [output]


def test_the_old_engine_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, models: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Path(shutil.copytree(models / "tiny-ctc", tmp_path / "models" / "engine"))
    pretend(monkeypatch, models / "tiny-base", lambda: None)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.startswith(".partial-engine-"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ExportError, match=r"engine cannot be written.*Input/output error"):
        export(str(checkpoints / "tiny-base"), output, force=True)
    assert Engine(output).manifest.ctc is not None
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    "problem", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left on device")]
)
def test_a_full_disk_is_an_export_error(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def full(*arguments: object) -> None:
        raise problem

    monkeypatch.setattr("export.golden.write", full)
    with pytest.raises(ExportError, match=r"engine cannot be written \(.*No space left.*make room"):
        export(str(checkpoints / "tiny-base"), tmp_path / "models" / "engine")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/folder", "folder-without-permission"])
def test_a_parent_that_cannot_hold_an_engine_is_named(tmp_path: Path, checkpoints: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder-without-permission").mkdir(mode=0o500)
    if below.endswith("permission") and os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    output = tmp_path / below / "engine"
    with pytest.raises(ExportError, match=r"engine cannot be written.*--output"):
        export(str(checkpoints / "tiny-base"), output)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0.0, -1.0, 0.001])
def test_an_impossible_longest_clip_is_refused_before_any_work(
    tmp_path: Path, checkpoints: Path, seconds: float
) -> None:
    with pytest.raises(ExportError, match=f"--max-seconds {seconds}"):
        export(str(checkpoints / "tiny-base"), tmp_path / "engine", max_seconds=seconds)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_nothing_that_loads(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    models = tmp_path / "models"
    command = [sys.executable, "-m", "sonant.cli", "export", str(checkpoint), "--output", str(models / "engine")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    while not list(models.glob(".partial-*/fp32.weights")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert find_engines(models) == {}


@pytest.mark.parametrize("compared", [True, False])
def test_a_graph_that_is_wrong_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool) -> None:
    """Even if the comparison with transformers is left out, its replay fails, before there is an engine.json."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1)

    def build(source: checkpoints.Checkpoint, options: Options) -> Exportable:
        exportable = families.FAMILIES["hubert"].build(source, options)
        exportable.module.get_parameter("encoder.encoder.layer_norm.weight").data *= 1.001
        return exportable

    monkeypatch.setattr(families, "build", build)
    monkeypatch.setattr(Manifest, "write", lambda manifest, folder: pytest.fail("engine.json was written"))
    if not compared:
        monkeypatch.setattr("export.parity.check", lambda *arguments: None)
    expected = "differs from transformers" if compared else "does not reproduce the golden clips"
    with pytest.raises(ParityError, match=expected):
        export(str(checkpoint), tmp_path / "models" / "engine")
    assert list((tmp_path / "models").iterdir()) == []


def test_layers_out_of_range_are_refused_before_any_work(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(UnsupportedError, match=r"--layers 3: the encoder has the layers 0 to 2"):
        export(str(checkpoint), tmp_path / "engine", layers=(3,))


def test_layers_without_hidden_states_are_refused_before_any_work(tmp_path: Path, checkpoints: Path) -> None:
    outputs = ("embeddings", "pooled")
    with pytest.raises(UnsupportedError, match=r"--layers: .*hidden states; add them to --outputs"):
        export(str(checkpoints / "tiny-base"), tmp_path / "models" / "engine", layers=(1,), outputs=outputs)
    assert list(tmp_path.iterdir()) == []


def test_language_adapter(tmp_path: Path) -> None:
    """`--target-lang` puts the language's adapters, head and vocabulary in place of those of the checkpoint."""
    config = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "adapter_attn_dim": 6, "num_hidden_layers": 2}
    checkpoint = make_checkpoint(tmp_path / "checkpoint", "HubertForCTC", seed=1, **config)
    other = HubertForCTC.from_pretrained(
        make_checkpoint(tmp_path / "other", "HubertForCTC", seed=2, vocab_size=9, **config)
    )
    state = {k: v for k, v in other.state_dict().items() if ".adapter_layer." in k or k.startswith("lm_head.")}
    save_file(state, checkpoint / "adapter.deu.safetensors")
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    vocabulary = {"eng": {**special, "a": 5}, "deu": {**special, "ä": 5, "ö": 6, "ü": 7, "ß": 8}}
    write_tokenizer(checkpoint, vocabulary, target_lang="eng")
    with pytest.raises(CheckpointError, match=r"deu"):
        export(str(checkpoint), tmp_path / "none", target_lang="fra")
    engine = export(str(checkpoint), tmp_path / "engine", target_lang="deu")
    assert engine.manifest.target_lang == "deu"
    assert engine.manifest.ctc is not None
    assert engine.manifest.ctc.vocabulary == tuple(vocabulary["deu"])
    model = HubertForCTC.from_pretrained(checkpoint)
    model.lm_head = other.lm_head
    model.load_state_dict(state, strict=False)
    clip = noise(8000)
    expected = families.build(checkpoints.resolve(str(checkpoint), target_lang="deu")).reference(clip)["logits"]
    assert expected.shape[-1] == 9
    (row,) = engine.run([clip], ["logits"])
    assert error(row["logits"], expected) <= TOLERANCE
    features = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
    with torch.inference_mode():
        independent = model.eval()(torch.from_numpy(features)[None]).logits[0].numpy()
    assert error(row["logits"], independent) <= TOLERANCE


def test_export_error_is_one_line_on_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sonant.cli", "export", str(tmp_path), "--output", str(tmp_path / "engine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("sonant: ")
    assert "Traceback" not in done.stderr
