from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.batch import pad
from engines.engine import Engine
from engines.errors import EngineError, OutOfMemoryError
from engines.runtimes.onnxruntime.gpu import GpuSession
from engines.runtimes.onnxruntime.session import OnnxSession, OnnxValue

ENGINES = Path(__file__).parents[4] / "demo" / "engines"
NODE = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Mul node. "
ARENA = "onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) "
CUDA = "onnxruntime/core/providers/cuda/cuda_call.cc:121 onnxruntime::CudaCall "
NO_MEMORY = [
    "[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc",
    NODE + "Name:'node_mul_36' Status Message: std::bad_alloc",
    NODE + "Name:'Mul_8702' Status Message: \n" + ARENA + "Failed to allocate memory for requested buffer of size 283",
    NODE + "Status Message: " + ARENA + "Available memory of 0 is smaller than requested bytes of 135383040",
    "[ONNXRuntimeError] : 1 : FAIL : " + CUDA + "CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc",
    NODE + "Status Message: " + CUDA + "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&x)",
    NODE + CUDA + "CUDNN failure 4002: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
]
OTHERS = [
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Unexpected input data type",
    NODE + "Status Message: " + CUDA + "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
    NODE + "Name:'allocate' Status Message: the shapes do not match",
]


class Raising:
    """An onnxruntime.InferenceSession that cannot run."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs

    def run(self, *_: object) -> None:
        raise self.error

    def io_binding(self) -> Any:
        raise self.error


def calls(session: OnnxSession) -> list[Any]:
    return [
        lambda: session.run(np.zeros((2, 3), np.float32), np.array([3, 3]), ["logits"]),
        lambda: session.compute({}, ["logits"]),
    ]


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("text", NO_MEMORY)
def test_what_says_that_memory_is_short_is_an_error_of_its_own(text: str, on_gpu: bool) -> None:
    session = Raising(RuntimeError(text))
    for call in calls(GpuSession(session, 0) if on_gpu else OnnxSession(session)):
        with pytest.raises(OutOfMemoryError) as caught:
            call()
        assert isinstance(caught.value, MemoryError)
        assert isinstance(caught.value, EngineError)
        assert text.splitlines()[-1].endswith(str(caught.value).split(": ", 1)[1])


@pytest.mark.parametrize("text", OTHERS)
def test_other_failures_stay_what_they_are(text: str) -> None:
    error = RuntimeError(text)
    for call in calls(OnnxSession(Raising(error))):
        with pytest.raises(RuntimeError) as caught:
            call()
        assert caught.value is error


def test_a_plain_memory_error_is_one_too() -> None:
    for call in calls(OnnxSession(Raising(MemoryError()))):
        with pytest.raises(OutOfMemoryError, match="MemoryError"):
            call()


def test_what_a_decoder_keeps_and_does_not_fit() -> None:
    class Full:
        def __getitem__(self, key: object) -> None:
            raise MemoryError("Unable to allocate 19.5 MiB")

    class Kept:
        def numpy(self) -> Full:
            return Full()

    with pytest.raises(OutOfMemoryError, match=r"19\.5 MiB"):
        OnnxValue(Kept()).select(np.arange(2), 3)


def test_waveforms_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 19.5 MiB")

    monkeypatch.setattr("engines.batch.np.empty", full)
    with pytest.raises(OutOfMemoryError, match=r"19\.5 MiB"):
        pad([np.zeros(4, np.float32)])


# A process that may have 100 MiB more than it needs to load the engine: runs of more and more clips of 10 s.
STARVED = """
import resource, sys
from pathlib import Path
import numpy as np
from engines.engine import Engine
from engines.errors import OutOfMemoryError
from engines.runtimes import RuntimeOptions

engine = Engine(Path(sys.argv[1]), options=RuntimeOptions("cpu", 1))
clip = np.zeros(160_000, np.float32)
engine.run([clip], ["logits"])
[size] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize")]
limit = (int(size) + 100 * 1024) * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
failed = 0
for rows in (1, 2, 4, 8, 16, 32, 64, 128):
    try:
        engine.run([clip] * rows, ["logits"])
    except OutOfMemoryError:
        failed += 1
engine.run([clip], ["logits"])
print(failed)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_an_allocation_that_really_fails_leaves_an_engine_that_goes_on() -> None:
    command = [sys.executable, "-c", STARVED, str(ENGINES / "hubert-ctc-english")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ENGINES.parents[1])
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 7


def test_a_session_that_finds_no_memory_is_not_told_to_be_exported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(*_: object, **__: object) -> None:
        raise RuntimeError("Exception during initialization: std::bad_alloc")

    monkeypatch.setattr("onnxruntime.InferenceSession", session)
    engine = Engine(ENGINES / "hubert-ctc-english")
    with pytest.raises(OutOfMemoryError, match=r"fp32\.onnx: bad_alloc"):
        engine.load(engine.full_graph)
