from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from engines.engine import Engine
from engines.errors import EngineInvalidError, EngineMismatchError, RuntimeUnavailableError
from engines.manifest import MANIFEST_NAME, Manifest
from engines.runtimes import resident
from engines.runtimes.onnxruntime import OnnxSession, OnnxValue
from engines.verify import error, proved
from tests.conftest import Exported
from tests.engines.test_engine import rehash
from tests.export.exactness import TorchSession
from tests.support import noise

NAME = "speech_encoder_decoder, bert"
CLIPS = [noise(9000, seed=1), noise(3100, seed=2), noise(6200, seed=3)]
STEPS = 8


@pytest.fixture(scope="module")
def engine(exports: Exported) -> Engine:
    return exports.engine(NAME)


@pytest.fixture
def folder(exports: Exported, tmp_path: Path) -> Path:
    """A copy of the engine, to be damaged."""
    return Path(shutil.copytree(exports.engine(NAME).folder, tmp_path / "engine"))


def write(engine: Engine, clips: list[int], beams: int, texts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the logits [clips, steps, vocabulary] after each token of `texts`, the same in all beams."""
    state = engine.start([CLIPS[clip] for clip in clips], beams)
    logits = []
    for tokens in texts[clips].T:
        given = np.repeat(tokens[:, None], beams, 1)
        rows = engine.step(state, given, np.zeros_like(given))
        assert all(error(rows[:, beam], rows[:, 0]) <= 1e-5 for beam in range(beams))
        logits.append(rows[:, -1])
    return np.stack(logits, 1)


@pytest.fixture(scope="module")
def texts(engine: Engine) -> NDArray[np.int64]:
    assert engine.manifest.generation is not None
    return np.random.default_rng(0).integers(0, engine.manifest.generation.vocabulary_size, (len(CLIPS), STEPS))


@pytest.fixture(scope="module")
def alone(engine: Engine, texts: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    return [write(engine, [clip], 1, texts)[0] for clip in range(len(CLIPS))]


def test_a_text_in_a_padded_batch_of_beams_is_that_of_the_clip_alone(
    engine: Engine, texts: NDArray[np.int64], alone: list[NDArray[np.float32]]
) -> None:
    for logits, truth in zip(write(engine, [0, 1, 2], 4, texts), alone, strict=True):
        assert error(logits, truth) <= 1e-5


def test_rows_continue_their_parents(engine: Engine, texts: NDArray[np.int64]) -> None:
    """Three beams write three texts; then the second and third go on with the first one's."""
    beams = 3
    state = engine.start(CLIPS[:1], beams)
    own = np.arange(beams)[None]
    for index in range(3):
        engine.step(state, texts[None, :, index], own if index else np.zeros_like(own))
    logits = engine.step(state, np.full((1, beams), 5), np.array([[2, 0, 0]]))
    follower = engine.start(CLIPS[:1], 1)
    for token in [*texts[0, :3], 5]:
        truth = engine.step(follower, np.array([[token]]), np.array([[0]]))
    assert error(logits[0, 1], truth[0, 0]) <= 1e-5
    assert error(logits[0, 2], truth[0, 0]) <= 1e-5
    assert error(logits[0, 0], truth[0, 0]) > 1e-3


def test_clips_that_are_left_go_on_as_before(
    engine: Engine, texts: NDArray[np.int64], alone: list[NDArray[np.float32]]
) -> None:
    state, clips = engine.start(CLIPS, beams=2), [0, 1, 2]
    for index in range(STEPS):
        if index == 3:
            clips = [2, 1]
            state.keep([2, 1])
            frames = {value.numpy().shape[2] for value in state.cross.values()}
            assert frames == {state.frames.max()}  # the longest clip has left
        if index == 6:
            clips = [1]
            state.keep([1])
        given = np.repeat(texts[clips, index, None], 2, 1)
        logits = engine.step(state, given, np.zeros_like(given))
        for clip, rows in zip(clips, logits, strict=True):
            assert all(error(row, alone[clip][index]) <= 1e-5 for row in rows)
    state.keep([])
    assert state.clips == 0


@pytest.mark.parametrize("kept", [[0], [1], [2, 0], [1, 2]])
def test_clips_may_leave_before_the_first_step(
    engine: Engine, texts: NDArray[np.int64], alone: list[NDArray[np.float32]], kept: list[int]
) -> None:
    state = engine.start(CLIPS, beams=2)
    state.keep(kept)
    for index in range(3):
        given = np.repeat(texts[kept, index, None], 2, 1)
        logits = engine.step(state, given, np.zeros_like(given))
        for clip, rows in zip(kept, logits, strict=True):
            assert all(error(row, alone[clip][index]) <= 1e-5 for row in rows)


def test_keeping_all_copies_nothing(engine: Engine) -> None:
    state = engine.start(CLIPS, beams=2)
    before = dict(state.cross)
    state.keep([0, 1, 2])
    assert state.cross == before


def test_arrays_stay_where_they_are(engine: Engine) -> None:
    session = resident(engine.load(engine.step_graph))
    assert isinstance(session, OnnxSession)
    array = np.ones((2, 3), np.float32)
    placed = session.place(array)
    if session.device == "cpu":
        assert np.shares_memory(placed.numpy(), array)
    state = engine.start(CLIPS, 1)
    engine.step(state, np.ones((3, 1), np.int64), np.zeros((3, 1), np.int64))
    values = [*state.cross.values(), *state.past.values()]
    assert {value.value.device_name() for value in values if isinstance(value, OnnxValue)} == {session.device}


def test_a_session_that_keeps_nothing_is_named(exports: Exported) -> None:
    from export import checkpoint as checkpoints
    from export import families

    exportable = families.build(checkpoints.resolve(str(exports.checkpoint(NAME))))
    with pytest.raises(RuntimeUnavailableError, match="TorchSession cannot keep a decoder's caches"):
        resident(TorchSession(exportable))


def test_an_engine_without_a_decoder_writes_nothing(models: Path) -> None:
    engine = Engine(models / "tiny-base")
    with pytest.raises(KeyError, match="start"):
        engine.start([noise(4000)], 1)
    with pytest.raises(KeyError, match="step"):
        engine.step_graph  # noqa: B018


def test_the_step_graph_is_verified_after_the_start_graph(exports: Exported) -> None:
    engine = exports.engine(NAME)
    engine.load(engine.step_graph)
    assert list(engine.checks) == ["fp32.start", "fp32.step"]
    assert [check.output for check in engine.checks["fp32.step"]] == ["logits"]
    assert all(check.ok and check.error > 0 for checks in engine.checks.values() for check in checks)
    assert engine.full_graph.name == engine.graph_for(["embeddings"]).name == "fp32"


def test_encoder_and_start_share_their_weights(engine: Engine) -> None:
    weights = [{file for file in graph.sha256 if file.endswith(".weights")} for graph in engine.graphs]
    assert weights == [{"fp32.weights"}, {"fp32.weights"}, {"fp32.step.weights"}]
    assert [graph.role for graph in engine.graphs] == ["encode", "start", "step"]


def test_golden_texts_are_few_and_small(engine: Engine) -> None:
    golden = engine.manifest.golden
    tensors = load_file(engine.folder / golden.file)
    assert (engine.folder / golden.file).stat().st_size <= 5_000_000
    for index in range(golden.clips):
        assert tensors[f"{index}.tokens"].shape == (golden.tokens,)
        assert tensors[f"{index}.text.logits"].shape[0] == golden.tokens
        assert tensors[f"{index}.text.logits"].shape[1] <= 1024
        assert {name for name in golden.cross if f"{index}.{name}" in tensors} == set(golden.cross)


def test_a_start_graph_is_proved_by_the_rows_that_its_golden_clips_keep(folder: Path) -> None:
    data = json.loads((folder / MANIFEST_NAME).read_text())
    path = folder / data["golden"]["file"]
    tensors = load_file(path)
    cut = {key: array[:, :3].copy() if ".cross." in key else array for key, array in tensors.items()}
    save_file(cut, path)
    for rows, proven in ((3, True), (4, False)):
        (folder / MANIFEST_NAME).write_text(json.dumps(data | {"golden": data["golden"] | {"rows": rows}}))
        rehash(folder, path.name)
        engine = Engine(folder)
        start = next(graph for graph in engine.graphs if graph.role == "start")
        assert proved(engine.open_graph(start)[1]) == proven


@pytest.mark.parametrize("name", ["text.logits", "cross"])
def test_other_values_than_the_golden_ones_are_not_served(folder: Path, name: str) -> None:
    golden = Manifest.read(folder).golden
    key = f"0.{golden.cross[0] if name == 'cross' else name}"
    path = folder / golden.file
    tensors = load_file(path)
    save_file(tensors | {key: tensors[key] * np.float32(1.01)}, path)
    rehash(folder, path.name)
    engine = Engine(folder)
    with pytest.raises(EngineMismatchError, match="does not reproduce its golden clips"):
        engine.step(engine.start(CLIPS, 1), np.ones((3, 1), np.int64), np.zeros((3, 1), np.int64))


def test_weights_that_were_changed_with_their_hash_fail_the_replay(folder: Path) -> None:
    path = folder / "fp32.step.weights"
    content = bytearray(path.read_bytes())
    weights = np.frombuffer(content, np.float32)
    weights[len(weights) // 2 : len(weights) // 2 + 100] *= 1.5
    path.write_bytes(content)
    rehash(folder, path.name)
    engine = Engine(folder)
    with pytest.raises(EngineMismatchError, match=r"fp32\.step does not reproduce"):
        engine.load(engine.step_graph)


@pytest.mark.parametrize(
    ("graph", "old", "new", "message"),
    [
        ("step", "parents", "parantz", "has the inputs"),
        ("step", "present.1.key", "present.1.kez", "does not compute present.1.key"),
        ("start", "cross.0.key", "cross.0.kez", "does not compute cross.0.key"),
    ],
)
def test_a_graph_of_another_interface_is_named(folder: Path, graph: str, old: str, new: str, message: str) -> None:
    """Of the same length, so that the graph stays readable."""
    path = folder / f"fp32.{graph}.onnx"
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    rehash(folder, path.name)
    engine = Engine(folder)
    with pytest.raises(EngineInvalidError, match=rf"fp32\.{graph}\.onnx {message}"):
        engine.load(engine.step_graph)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["graphs"].pop(), "a graph of role start and one of role step"),
        (lambda data: data["generation"].update(eos_tokens=[4000]), "4000 is no id"),
        (lambda data: data["golden"].update(tokens=0), "no output that the golden clips could prove"),
        (lambda data: data["golden"].update(tokens=4000), "texts of 4000 tokens"),
        (lambda data: data["golden"].update(cross=["cross.7.key"]), "the start graph has not: cross.7.key"),
        (lambda data: data["graphs"][2].update(outputs=["embeddings"]), "the outputs of role step are logits"),
        (lambda data: data.update(generation=None), "no generation"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder: Path, change: object, message: str) -> None:
    path = folder / MANIFEST_NAME
    data = json.loads(path.read_text())
    change(data)  # type: ignore[operator]
    path.write_text(json.dumps(data))
    with pytest.raises(EngineInvalidError, match=message):
        Manifest.read(folder)


def test_cuda_writes_what_a_cpu_writes(engine: Engine, alone: list[NDArray[np.float32]]) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu and a CUDA device")
    from engines.runtimes import RuntimeOptions

    cpu = Engine(engine.folder, options=RuntimeOptions(device="cpu"))
    texts = np.random.default_rng(1).integers(0, 9, (len(CLIPS), STEPS))
    assert error(write(engine, [0, 1, 2], 2, texts), write(cpu, [0, 1, 2], 2, texts)) <= 1e-4
