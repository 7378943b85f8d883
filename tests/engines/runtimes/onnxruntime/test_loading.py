from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from engines.engine import Engine
from engines.errors import EngineInvalidError, RuntimeUnavailableError
from engines.runtimes import RuntimeOptions, find
from engines.runtimes.onnxruntime.captured import CapturedSession
from engines.runtimes.onnxruntime.gpu import GpuSession
from engines.runtimes.onnxruntime.session import OnnxSession
from tests.engines.runtimes.driver import Driver, put

DEMO = Path(__file__).parents[4] / "demo" / "engines" / "hubert-ctc-english"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Session:
    """What becomes of onnxruntime.InferenceSession where CUDA starts, or does not."""

    made: Any = None
    starts = True

    def __init__(self, path: str, options: Any, providers: Any, disabled_optimizers: Any) -> None:
        self.options, self.providers, self.disabled = options, dict(providers), disabled_optimizers
        Session.made = self

    def get_providers(self) -> list[str]:
        return [name for name in self.providers if self.starts or name == CPU]

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    """A host with one GPU."""
    put(monkeypatch, Driver())
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda **_: sys.stdout.write("no such library\n"))
    monkeypatch.setattr(Session, "starts", True)
    return Session


def load(options: RuntimeOptions) -> OnnxSession:
    engine = Engine(DEMO)
    session = find("onnxruntime").load(DEMO, engine.full_graph, options)
    assert isinstance(session, OnnxSession)
    return session


def test_a_gpu_is_used_where_there_is_one(gpu: type[Session], capsys: pytest.CaptureFixture[str]) -> None:
    session = load(RuntimeOptions(device_bytes=10))
    assert isinstance(session, GpuSession)
    assert (session.device, session.device_id) == ("cuda", 0)
    weights = Engine(DEMO).file_bytes([Engine(DEMO).full_graph])
    assert gpu.made.providers[CUDA]["gpu_mem_limit"] == str(weights + 10)
    assert gpu.made.disabled == []
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no such library\n")  # what is printed may be a command's result


def test_a_gpu_that_is_not_wanted_is_left_alone(gpu: type[Session]) -> None:
    session = load(RuntimeOptions("cpu"))
    assert (type(session), session.device) == (OnnxSession, "cpu")
    assert set(gpu.made.providers) == {CPU}
    assert gpu.made.disabled


def test_cuda_that_does_not_start_is_said_where_it_was_asked_for(
    gpu: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "starts", False)
    assert load(RuntimeOptions()).device == "cpu"
    with pytest.raises(RuntimeUnavailableError, match="could not start its CUDA provider"):
        load(RuntimeOptions("cuda"))


def test_where_there_is_no_gpu_cuda_is_not_tried(gpu: type[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Driver("cuInit"))
    assert load(RuntimeOptions()).device == "cpu"
    assert set(gpu.made.providers) == {CPU}


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_there_is_not_is_said() -> None:
    with pytest.raises(RuntimeUnavailableError, match="no GPU number 1, they are counted from 0; the process sees 1"):
        load(RuntimeOptions(device_id=1))
    assert load(RuntimeOptions("cpu", device_id=1)).device == "cpu"


def test_an_engine_is_given_all_cores_but_one(gpu: type[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.cores", lambda: 7)
    load(RuntimeOptions("cpu"))
    assert gpu.made.options.intra_op_num_threads == 6


def test_the_session_of_this_host_is_one_for_its_cpu() -> None:
    session = load(RuntimeOptions("cpu", 1))
    assert type(session) is OnnxSession
    assert {"waveform", "lengths"} == set(session.inputs)
    assert "logits" in session.outputs
    assert CPU in onnxruntime.get_available_providers()


def test_cuda_graphs_are_for_encoders_where_they_are_asked_for(gpu: type[Session]) -> None:
    assert isinstance(load(RuntimeOptions(cuda_graphs=True)), CapturedSession)
    assert gpu.made.providers[CUDA]["enable_cuda_graph"] == "1"
    writer = Engine(DEMO.parent / "hubert-translate-english-german")
    session = find("onnxruntime").load(writer.folder, writer.step_graph, RuntimeOptions(cuda_graphs=True))
    assert type(session) is GpuSession
    assert "enable_cuda_graph" not in gpu.made.providers[CUDA]


def test_a_session_that_cannot_be_made_says_what_to_do(gpu: type[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    monkeypatch.setattr("onnxruntime.InferenceSession", fail)
    with pytest.raises(EngineInvalidError, match=r"fp32\.onnx cannot be loaded .* export the engine again"):
        load(RuntimeOptions())
    with pytest.raises(EngineInvalidError, match="run it without CUDA graphs"):
        load(RuntimeOptions(cuda_graphs=True))
    assert gpu.made is not None
