"""Sessions of a GPU over ONNX Runtime's CPU: the same bindings, whose memory a driver of ours copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engines.engine import Engine
from engines.errors import OutOfMemoryError
from engines.runtimes import RuntimeOptions, cuda, pinned
from engines.runtimes.onnxruntime import arena
from engines.runtimes.onnxruntime.gpu import GpuSession
from engines.runtimes.onnxruntime.session import OnnxSession
from tests.engines.runtimes.driver import Driver, put
from tests.support import noise

DEMO = Path(__file__).parents[4] / "demo" / "engines" / "hubert-ctc-english"
NAMES = ["logits", "embeddings", "pooled", "frames"]
WAVEFORM, LENGTHS = np.stack([noise(16_000)] * 3), np.array([16_000, 12_000, 400])


class OverCpu(GpuSession):
    """A session of a GPU whose memory is that of the host."""

    device = "cpu"


@pytest.fixture(scope="module")
def loaded() -> Any:
    graph = Engine(DEMO).full_graph
    return onnxruntime.InferenceSession(str(DEMO / graph.file), providers=["CPUExecutionProvider"])


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return put(monkeypatch, Driver())


@pytest.fixture
def session(loaded: Any, driver: Driver) -> OverCpu:
    return OverCpu(loaded, 0)


def test_a_batch_comes_back_in_pinned_memory(session: OverCpu, loaded: Any, driver: Driver) -> None:
    arrays = session.run(WAVEFORM, LENGTHS, NAMES)
    truth = OnnxSession(loaded).run(WAVEFORM, LENGTHS, NAMES)
    assert list(arrays) == NAMES
    for name, array in truth.items():
        assert arrays[name].dtype == array.dtype
        assert (arrays[name] == array).all()
    large = [name for name, array in arrays.items() if array.nbytes >= pinned.SMALLEST_BYTES]
    assert large == ["embeddings"]
    assert len(driver.pinned) == 1
    assert arrays["embeddings"].base is not None
    assert driver.calls.count("cuMemcpyDtoH_v2") == len(NAMES)


def test_what_is_not_asked_for_is_not_copied(session: OverCpu, driver: Driver) -> None:
    assert set(session.run(WAVEFORM, LENGTHS, ["pooled"])) == {"pooled"}
    assert driver.calls.count("cuMemcpyDtoH_v2") == 1


def test_the_waveforms_of_batches_are_pinned_too(session: OverCpu, driver: Driver) -> None:
    from engines.batch import pad

    waveform, _ = pad([noise(20_000), noise(4_000)])
    assert session.device_id == 0
    assert len(driver.pinned) == 1
    assert waveform.ctypes.data == np.frombuffer(driver.pinned[0], np.uint8).ctypes.data


def test_arrays_stay_on_the_device(session: OverCpu) -> None:
    values = session.compute({"waveform": session.place(WAVEFORM), "lengths": session.place(LENGTHS)}, ["logits"])
    assert (values["logits"].numpy() == session.run(WAVEFORM, LENGTHS, ["logits"])["logits"]).all()


def test_a_gpu_that_is_gone_is_no_shortage_of_memory(session: OverCpu, driver: Driver) -> None:
    driver.failing = "cuMemcpyDtoH_v2"
    with pytest.raises(RuntimeError, match="CUDA failure 2: a copy"):
        session.run(WAVEFORM, LENGTHS, ["pooled"])


class Loaded:
    """A session that is short of memory at first, and says what it is run with."""

    def __init__(self, session: Any) -> None:
        self.session, self.options = session, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.options.append(options)
        if len(self.options) == 1:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
        self.session.run_with_iobinding(binding)


@pytest.mark.usefixtures("driver")
def test_after_a_shortage_memory_is_given_back(loaded: Any) -> None:
    told = Loaded(loaded)
    session = OverCpu(told, 0)
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        session.run(WAVEFORM, LENGTHS, ["pooled"])
    for _ in range(2):
        session.run(WAVEFORM, LENGTHS, ["pooled"])
    first, second, third = told.options
    assert (first, third) == (None, None)
    assert second.get_run_config_entry(arena.SHRINK) == "gpu:0"


@pytest.mark.skipif(not cuda.count(), reason="needs onnxruntime-gpu and a CUDA device")
@pytest.mark.parametrize("form", ["onnxruntime/fp32", "onnxruntime/fp16", "onnxruntime/bf16"])
def test_on_a_gpu_every_form_reproduces_its_golden_clips(form: str) -> None:
    engine = Engine(DEMO, options=RuntimeOptions("cuda", max_error=1.0))
    if engine.forms.find(form) is None:
        pytest.skip(f"the engine has no {form}")
    engine.use(form)
    engine.load_first()
    assert (engine.form.name, engine.device) == (form, "cuda")
    clips = [noise(16_000), noise(9_000), noise(16_000)]
    first, second, third = engine.run(clips, ["embeddings", "logits", "pooled"])
    for name in first:
        assert np.array_equal(first[name], third[name])
        assert second[name].shape[-1] == first[name].shape[-1]
