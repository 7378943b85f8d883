from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engines.engine import RETRY_MEMORY_SECONDS, RETRY_SECONDS, Engine
from engines.errors import (
    EngineError,
    EngineInvalidError,
    EngineMismatchError,
    EngineNotFoundError,
    EngineTamperedError,
    OutOfMemoryError,
    RuntimeUnavailableError,
)
from engines.manifest import MANIFEST_NAME
from engines.runtimes import RuntimeOptions
from engines.verify import check_file, error
from tests.support import noise

DEMO = Path(__file__).parents[2] / "demo" / "engines" / "hubert-ctc-english"


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A copy of an engine, to be damaged."""
    return Path(shutil.copytree(models / "tiny-ctc", tmp_path / "engine"))


def load(folder: Path) -> None:
    load_all(Engine(folder))


def load_all(engine: Engine) -> None:
    for graph in engine.graphs:
        engine.load(graph)


def rehash(folder: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed, as somebody who tampers would."""
    import hashlib

    path = folder / MANIFEST_NAME
    data: dict[str, Any] = json.loads(path.read_text())
    found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for graph in data["graphs"]:
        if name in graph["sha256"]:
            graph["sha256"][name] = found
    if data["golden"]["file"] == name:
        data["golden"]["sha256"] = found
    path.write_text(json.dumps(data))


def test_two_hundred_clips_sixteen_at_a_time_equal_one_at_a_time(models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    generator = np.random.default_rng(0)
    clips = [noise(int(n), seed=int(n)) for n in generator.integers(engine.manifest.min_samples, 40_000, 200)]
    outputs = ["embeddings", "pooled", "logits", "hidden_states.1"]
    alone = [engine.run([clip], outputs)[0] for clip in clips]
    together = [row for first in range(0, 200, 16) for row in engine.run(clips[first : first + 16], outputs)]
    for one, many in zip(alone, together, strict=True):
        assert all(error(many[name], one[name]) <= 1e-5 for name in outputs)
        assert (many["logits"].argmax(-1) == one["logits"].argmax(-1)).all()


def test_rows_are_cut_to_their_frames(models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    shortest = engine.manifest.min_samples
    rows = engine.run([noise(shortest), noise(shortest + 320), noise(16000)], ["embeddings", "logits", "pooled"])
    assert [row["embeddings"].shape[0] for row in rows] == [1, 2, 1 + (16000 - shortest) // 320]
    assert [row["logits"].shape[0] for row in rows] == [row["embeddings"].shape[0] for row in rows]
    assert {row["pooled"].shape for row in rows} == {(32,)}
    assert {row["embeddings"].dtype for row in rows} == {np.dtype(np.float32)}


def test_an_output_that_there_is_not_is_a_key_error(models: Path) -> None:
    with pytest.raises(KeyError, match=r"hidden_states\.9"):
        Engine(models / "tiny-ctc").run([noise(4000)], ["embeddings", "hidden_states.9"])


def test_graphs_are_loaded_when_first_needed(models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    engine.run([noise(4000)], ["hidden_states.1"])
    assert list(engine.checks) == ["fp32.layers1"]
    engine.run([noise(4000)], ["embeddings"])
    assert list(engine.checks) == ["fp32.layers1", "fp32"]
    assert all(check.ok for checks in engine.checks.values() for check in checks)


def test_what_needs_a_load_is_known_before(models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    assert engine.needs_load(["hidden_states.1"])
    engine.load_for(["hidden_states.1"])
    assert not engine.needs_load(["hidden_states.1"])
    assert engine.needs_load(["hidden_states.1", "embeddings"])
    for question in (engine.needs_load, engine.load_for):
        with pytest.raises(KeyError, match=r"hidden_states\.9"):
            question(["hidden_states.9"])


@pytest.mark.parametrize(
    ("error", "seconds"), [(EngineInvalidError, RETRY_SECONDS), (OutOfMemoryError, RETRY_MEMORY_SECONDS)]
)
def test_a_load_that_failed_is_not_tried_again_for_a_while(
    error: type[EngineError], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tried = [1000.0], list[float]()

    def fail(*_: object) -> None:
        tried.append(now[0])
        raise error("no such luck")

    monkeypatch.setattr("engines.engine.time.monotonic", lambda: now[0])
    engine = Engine(DEMO)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "open_graph", fail)
        for now[0] in (1000, 1000 + 0.9 * seconds, 1000 + 1.1 * seconds, 1000 + 1.9 * seconds):
            with pytest.raises(error, match=r"^no such luck$"):
                engine.load_for(["logits"])
            assert engine.needs_load(["logits"])
    assert tried == [1000, 1000 + 1.1 * seconds]
    now[0] += seconds
    engine.load_for(["logits"])
    assert not engine.needs_load(["logits"])


def test_an_engine_is_checked_again_while_it_is_loaded(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(models / "tiny-ctc")
    assert engine.recheck()  # nothing is loaded
    load_all(engine)
    monkeypatch.setattr("engines.engine.read_golden", None)  # the file may be gone
    assert engine.recheck()
    session = engine.load(engine.full_graph)
    run = session.run

    def wrong(*arguments: Any) -> Any:
        arrays: Any = run(*arguments)
        return {name: array + 1 for name, array in arrays.items()}

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 700")

    for instead in (wrong, fail):
        monkeypatch.setattr(session, "run", instead)
        assert not engine.recheck()
    monkeypatch.setattr(session, "run", run)
    assert engine.recheck()


def test_a_decoder_is_checked_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(DEMO.parent / "hubert-translate-english-german")
    assert engine.recheck()
    engine.load(engine.step_graph)
    assert engine.recheck()
    monkeypatch.setattr(engine.load(engine.step_graph), "compute", None)
    assert not engine.recheck()


def test_a_load_says_what_a_second_takes(models: Path) -> None:
    for folder, first in (
        (models / "tiny-ctc", "fp32"),
        (DEMO.parent / "hubert-translate-english-german", "fp32.start"),
    ):
        engine = Engine(folder)
        for graph in sorted(engine.graphs, key=lambda graph: graph.name == first):
            if graph.role != "step":  # which loads another before
                assert engine.seconds_per_second is None
                engine.load(graph)
        assert engine.seconds_per_second is not None
        assert 0 < engine.seconds_per_second < 10


def test_threads_share_one_engine(models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    clips = [noise(5000 + 997 * index, seed=index) for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda clip: engine.run([clip], ["embeddings"])[0]["embeddings"], clips))
    for clip, row in zip(clips, rows, strict=True):
        assert error(engine.run([clip], ["embeddings"])[0]["embeddings"], row) <= 1e-6
    assert list(engine.checks) == ["fp32"]


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.weights", "golden.safetensors", "fp32.layers1.onnx"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "one bit", "empty"])
def test_a_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes({"truncated": content[:-100], "one bit": content, "empty": b""}[damage]))
    with pytest.raises((EngineNotFoundError, EngineTamperedError), match=f"{name}.*export or copy"):
        load(folder)


def test_a_weight_that_was_changed_with_its_hash_fails_the_replay(folder: Path) -> None:
    path = folder / "fp32.weights"
    content = bytearray(path.read_bytes())
    weights = np.frombuffer(content, np.float32)
    weights[len(weights) // 2 : len(weights) // 2 + 100] *= 1.5
    path.write_bytes(content)
    rehash(folder, "fp32.weights")
    with pytest.raises(EngineMismatchError, match="does not reproduce its golden clips"):
        load(folder)


def test_a_graph_that_is_no_onnx_is_named(folder: Path) -> None:
    (folder / "fp32.onnx").write_bytes(b"not a graph")
    rehash(folder, "fp32.onnx")
    with pytest.raises(EngineInvalidError, match=r"fp32\.onnx cannot be loaded"):
        load(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("waveform", "waveforn", "has the inputs"), ("frames", "framez", "does not compute frames")],
)
def test_a_graph_of_another_interface_is_named(folder: Path, old: str, new: str, message: str) -> None:
    """Of the same length, so that the graph stays readable."""
    for name in ("fp32.onnx", "fp32.layers1.onnx"):
        (folder / name).write_bytes((folder / name).read_bytes().replace(old.encode(), new.encode()))
        rehash(folder, name)
    with pytest.raises(EngineInvalidError, match=rf"fp32\.onnx {message}"):
        load(folder)


def test_a_failure_on_the_golden_clips_names_the_graph(folder: Path) -> None:
    path = folder / "golden.safetensors"
    save_file(load_file(path) | {"0.waveform": np.zeros(3, np.float32)}, path)
    rehash(folder, path.name)
    with pytest.raises(EngineInvalidError, match=r"fp32\.onnx fails on the golden clips"):
        load(folder)


@pytest.mark.parametrize("name", ["fp32.onnx", "golden.safetensors"])
def test_a_folder_in_place_of_a_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(EngineInvalidError, match=rf"{name} cannot be read"):
        load(folder)


def test_a_file_that_graphs_share_is_hashed_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr("engines.engine.check_file", lambda path, sha256: hashed.append(path.name))
    load(models / "tiny-ctc")
    assert sorted(hashed) == ["fp32.layers1.onnx", "fp32.onnx", "fp32.weights"]


def test_golden_clips_that_are_no_tensors_are_named(folder: Path) -> None:
    (folder / "golden.safetensors").write_bytes(b"not tensors")
    rehash(folder, "golden.safetensors")
    with pytest.raises(EngineInvalidError, match=r"golden\.safetensors cannot be read"):
        load(folder)


def test_a_precision_that_there_is_not_is_named(models: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="onnxruntime/fp32: the precision is set to int8"):
        Engine(models / "tiny-ctc", options=RuntimeOptions(precision="int8"))


def test_cuda_that_there_is_not_is_said(models: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this host has CUDA")
    engine = Engine(models / "tiny-ctc", options=RuntimeOptions(device="cuda"))
    with pytest.raises(RuntimeUnavailableError, match=r"sonant\[gpu\]"):
        engine.load(engine.full_graph)


def test_cuda_gives_the_golden_outputs(models: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu and a CUDA device")
    engine = Engine(models / "tiny-ctc", options=RuntimeOptions(device="cuda"))
    engine.load(engine.full_graph)
    assert all(check.ok for check in engine.checks["fp32"])


def test_check_file_accepts_what_it_should(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    check_file(path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
