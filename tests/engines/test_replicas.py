from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.engine import Engine
from engines.errors import EngineInvalidError, OutOfMemoryError
from engines.memory import RowMemory
from engines.replicas import ReplicatedEngine, open_engine
from engines.runtimes import RuntimeOptions
from tests.support import noise

ENGINES = Path(__file__).parents[2] / "demo" / "engines"
ENCODER, WRITER = ENGINES / "hubert-ctc-english", ENGINES / "hubert-translate-english-german"
CLIP = noise(8000)


def replicated(folder: Path) -> ReplicatedEngine:
    """An engine on two GPUs, which are both the CPU."""
    return ReplicatedEngine(folder, None, RuntimeOptions(threads=1, device_ids=(0, 2)))


@pytest.fixture
def engine() -> ReplicatedEngine:
    engine = replicated(ENCODER)
    engine.load_first()
    return engine


def session(engine: ReplicatedEngine, index: int) -> Any:
    copy = engine.gpus[index].engine
    return Engine.load(copy, copy.full_graph)


def gone(*_: object) -> None:
    raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")


def count(monkeypatch: pytest.MonkeyPatch, engine: ReplicatedEngine, method: str) -> list[int]:
    """Note the GPU of each call of `method`."""
    called: list[int] = []
    for index, gpu in enumerate(engine.gpus):
        for graph in [gpu.engine.full_graph] if method == "run" else gpu.engine.first_graphs:
            loaded: Any = Engine.load(gpu.engine, graph)
            inner: Callable[..., Any] = getattr(loaded, method)

            def outer(*arguments: Any, index: int = index, inner: Callable[..., Any] = inner) -> Any:
                called.append(index)
                return inner(*arguments)

            monkeypatch.setattr(loaded, method, outer)
    return called


def test_what_opens_follows_the_options() -> None:
    several = open_engine(ENCODER, "name", RuntimeOptions(device_ids=(1, 3)))
    assert isinstance(several, ReplicatedEngine)
    assert [gpu.number for gpu in several.gpus] == [1, 3]
    assert [gpu.engine._options.device_id for gpu in several.gpus] == [1, 3]
    assert {gpu.engine.name for gpu in several.gpus} == {"name"}
    for options in (RuntimeOptions(), RuntimeOptions("cpu", device_ids=(1, 3)), RuntimeOptions(device_ids=(1,))):
        assert type(open_engine(ENCODER, options=options)) is Engine
    assert open_engine(ENCODER, options=RuntimeOptions(device_ids=(3,)))._options.device_id == 3


def test_every_gpu_is_verified_and_files_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr("engines.engine.check_file", lambda path, sha256: hashed.append(path.name))
    engine = replicated(ENCODER)
    assert engine.device is None
    assert engine.needs_load(["logits"])
    assert engine.load_first() == [engine.full_graph]
    assert all(gpu.engine.checks for gpu in engine.gpus)
    assert len(hashed) == len(set(hashed))
    assert engine.device == "cpu"
    assert not engine.needs_load(["logits"])
    assert session(engine, 0) is not session(engine, 1)


def test_calls_at_the_same_time_go_to_different_gpus(engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)
    for index in range(2):
        loaded = session(engine, index)
        inner = loaded.run

        def outer(*arguments: Any, inner: Callable[..., Any] = inner) -> Any:
            together.wait(60)  # until both GPUs are busy, which neither would ever be alone
            return inner(*arguments)

        monkeypatch.setattr(loaded, "run", outer)
    called = count(monkeypatch, engine, "run")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda clip: engine.run([clip], ["logits"])[0]["logits"], [CLIP, CLIP])
    assert sorted(called) == [0, 1]
    assert np.array_equal(first, second)
    assert [gpu.running for gpu in engine.gpus] == [0, 0]


def test_a_gpu_that_is_gone_takes_nobody_with_it(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    truth = engine.run([CLIP], ["logits"])[0]["logits"]
    monkeypatch.setattr(session(engine, 0), "run", gone)
    assert np.array_equal(engine.run([CLIP], ["logits"])[0]["logits"], truth)
    assert engine.lost == (0,)
    assert "GPU 0 is not used any more: CUDA failure 700" in caplog.text
    assert engine.recheck()
    monkeypatch.setattr(session(engine, 1), "run", gone)
    with pytest.raises(RuntimeError, match="CUDA failure 700"):
        engine.run([CLIP], ["logits"])
    assert engine.lost == (0,)  # what is wrong with the last, the caller learns
    assert not engine.recheck()


def test_a_gpu_that_does_not_answer_is_gone(engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its golden clips say nothing of it where it has given up the form that was loaded."""
    monkeypatch.setattr(Engine, "device", property(lambda engine: "cuda"))
    monkeypatch.setattr(Engine, "recheck", lambda engine: True)
    monkeypatch.setattr("engines.runtimes.cuda.free_memory", {2: 10**9}.get)
    monkeypatch.setattr(session(engine, 0), "run", gone)
    assert engine.run([CLIP], ["logits"])[0]["logits"].size
    assert engine.lost == (0,)


def test_a_clip_that_fails_everywhere_costs_no_gpu(engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(2):
        loaded = session(engine, index)

        def run(waveform: Any, *rest: Any, inner: Callable[..., Any] = loaded.run) -> Any:
            return gone() if waveform.shape == (1, len(CLIP)) else inner(waveform, *rest)

        monkeypatch.setattr(loaded, "run", run)
    with pytest.raises(RuntimeError, match="CUDA failure 700"):
        engine.run([CLIP], ["logits"])
    assert engine.lost == ()


@pytest.mark.parametrize("error", [OutOfMemoryError("full"), KeyError("no such output"), ValueError("no such shape")])
def test_what_is_not_the_fault_of_a_gpu_is_not_looked_into(
    error: Exception, engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Engine, "recheck", gone)
    monkeypatch.setattr(session(engine, 0), "run", fail)
    with pytest.raises(type(error)):
        engine.run([CLIP], ["logits"])
    assert engine.lost == ()


def test_a_gpu_where_nothing_loads_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = replicated(ENCODER)
    load, refused = Engine.load_first, {0}

    def fail(one: Engine) -> Any:
        if one._options.device_id in refused:
            raise EngineInvalidError("no such luck")
        return load(one)

    monkeypatch.setattr(Engine, "load_first", fail)
    assert engine.load_first() == [engine.full_graph]
    assert (engine.lost, engine.device) == ((0,), "cpu")
    refused.add(2)
    with pytest.raises(EngineInvalidError, match="no such luck"):
        engine.load_first()


def test_a_state_stays_where_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = replicated(WRITER)
    engine.load_first()
    one = Engine(WRITER, options=RuntimeOptions("cpu", 1))
    called = count(monkeypatch, engine, "compute")
    tokens = np.full((1, 1), 5)
    truth = one.step(one.start([CLIP]), tokens, tokens * 0)
    first = engine.start([CLIP])
    engine.gpus[0].running = 1  # as if it did something else
    second = engine.start([CLIP])
    assert called == [0, 1]
    for state in (second, first):
        assert np.allclose(engine.step(state, tokens, tokens * 0), truth, atol=1e-5)
    assert called == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="must be"):
        engine.step(first, tokens[0], tokens[0])
    monkeypatch.setattr(Engine, "recheck", lambda engine: False)
    monkeypatch.setattr(session_of(engine, 1), "compute", gone)
    with pytest.raises(RuntimeError, match="CUDA failure 700"):
        engine.step(second, tokens, tokens * 0)
    assert engine.lost == (2,)
    assert np.isfinite(engine.step(first, tokens, tokens * 0)).all()


def session_of(engine: ReplicatedEngine, index: int) -> Any:
    copy = engine.gpus[index].engine
    return Engine.load(copy, copy.step_graph)


def test_what_is_told_is_told_to_all(engine: ReplicatedEngine) -> None:
    engine.tune(3, RowMemory(1e15, 0))
    assert [gpu.engine._options.threads for gpu in engine.gpus] == [3, 3]
    assert engine.max_rows(16_000) == 1
    engine.use("onnxruntime/fp32")
    assert (engine.form.name, engine.fallbacks) == ("onnxruntime/fp32", 0)
    engine.load_for(["logits"])
    engine.close()
    assert engine.device is None
    assert [gpu.engine._closed for gpu in engine.gpus] == [True, True]
