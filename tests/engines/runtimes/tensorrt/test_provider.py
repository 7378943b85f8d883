from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import RuntimeUnavailableError
from engines.manifest import Graph, Manifest, Profile
from engines.runtimes import ProfiledSession, RuntimeOptions, TensorRtProvider, find
from engines.runtimes.onnxruntime.gpu import GpuSession
from engines.runtimes.tensorrt import provider
from engines.runtimes.tensorrt.provider import BoundedSession

ENGINE = Path(__file__).parents[4] / "demo" / "engines" / "hubert-ctc-english"
PROFILES = (
    Profile(min_samples=400, opt_samples=8000, max_samples=8000, min_rows=1, opt_rows=8, max_rows=64),
    Profile(min_samples=8001, opt_samples=16000, max_samples=16000, min_rows=1, opt_rows=2, max_rows=4),
)


def graph(precision: str = "fp16", **changed: Any) -> Graph:
    [full] = Manifest.read(ENGINE).graphs
    return Graph.model_validate({**full.model_dump(), "name": precision, "precision": precision, **changed})


def test_every_profile_is_stated_in_the_words_of_the_provider(tmp_path: Path) -> None:
    found = provider.options(graph(), TensorRtProvider(PROFILES, tmp_path), 2)
    assert found["trt_profile_min_shapes"] == "waveform:1x400,lengths:1,waveform:1x8001,lengths:1"
    assert found["trt_profile_opt_shapes"] == "waveform:8x8000,lengths:8,waveform:2x16000,lengths:2"
    assert found["trt_profile_max_shapes"] == "waveform:64x8000,lengths:64,waveform:4x16000,lengths:4"
    assert (found["device_id"], found["trt_fp16_enable"], found["trt_bf16_enable"]) == ("2", "1", "0")
    assert (found["trt_engine_cache_enable"], found["trt_engine_cache_path"]) == ("1", str(tmp_path))
    other = provider.options(graph("bf16"), TensorRtProvider(PROFILES, tmp_path), 0)
    assert (other["trt_fp16_enable"], other["trt_bf16_enable"]) == ("0", "1")
    assert other["trt_engine_cache_prefix"] != found["trt_engine_cache_prefix"]


class Doubling:
    """A session that gives the lengths back, twice as large, and remembers the batches."""

    def __init__(self) -> None:
        self.device = "cuda"
        self.inputs: tuple[str, ...] = ("waveform", "lengths")
        self.outputs: tuple[str, ...] = ("double",)
        self.batches: list[tuple[int, ...]] = []

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        self.batches.append(waveform.shape)
        return dict.fromkeys(outputs, 2 * lengths)


def test_a_batch_that_is_too_large_is_run_in_parts() -> None:
    inner = Doubling()
    session: ProfiledSession = BoundedSession(inner, PROFILES)
    lengths = np.arange(9) + 7000
    assert np.array_equal(session.run(np.zeros((9, 16000), np.float32), lengths, ["double"])["double"], 2 * lengths)
    session.run(np.zeros((9, 8000), np.float32), lengths, ["double"])
    assert inner.batches == [(4, 16000), (4, 16000), (1, 16000), (9, 8000)]


@pytest.mark.parametrize("samples", [399, 16001])
def test_what_no_profile_takes_never_reaches_the_provider(samples: int) -> None:
    inner = Doubling()
    with pytest.raises(RuntimeUnavailableError, match=f"no profile of the plan takes {samples} samples"):
        BoundedSession(inner, PROFILES).run(np.zeros((1, samples), np.float32), np.array([samples]), ["double"])
    assert inner.batches == []


class Host:
    """An onnxruntime with providers for GPUs, of which `working` start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, working: list[str]) -> None:
        self.given: Any = None
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [provider.NAME, "CUDAExecutionProvider"])
        monkeypatch.setattr("onnxruntime.preload_dlls", lambda **_: None)
        monkeypatch.setattr("onnxruntime.InferenceSession", self.session)
        monkeypatch.setattr(GpuSession, "__init__", lambda self, *_: self.__dict__.update(vars(Doubling())))
        self.working = working

    def session(self, path: str, options: Any, providers: list[Any], **_: object) -> Any:
        self.given = providers
        return SimpleNamespace(get_providers=lambda: self.working)


OPTIONS = RuntimeOptions("cuda", tensorrt_provider=TensorRtProvider(PROFILES, Path("/cache")))


def test_the_provider_comes_first_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, [provider.NAME, "CUDAExecutionProvider"])
    session = find("onnxruntime").load(ENGINE, graph(), OPTIONS)
    assert [name for name, _ in host.given] == [provider.NAME, "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert host.given[0][1] == provider.options(graph(), TensorRtProvider(PROFILES, Path("/cache")), 0)
    assert isinstance(session, ProfiledSession)
    assert session.profiles == PROFILES


@pytest.mark.parametrize(
    ("which", "options"),
    [
        (graph("fp32"), OPTIONS),
        (graph("int8"), OPTIONS),
        (graph(role="start"), OPTIONS),
        (graph(), RuntimeOptions("cuda")),
    ],
)
def test_it_is_left_out_where_it_is_of_no_use(
    which: Graph, options: RuntimeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(monkeypatch, ["CUDAExecutionProvider"])
    assert not isinstance(find("onnxruntime").load(ENGINE, which, options), ProfiledSession)
    assert [name for name, _ in host.given] == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_provider_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch, ["CUDAExecutionProvider"])
    with pytest.raises(RuntimeUnavailableError, match="could not start its TensorRT provider; see `sonant doctor`"):
        find("onnxruntime").load(ENGINE, graph(), OPTIONS)
