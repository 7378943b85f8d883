"""What the builder and the runtime ask of TensorRT: every call, in its order, with its arguments.

That TensorRT has these calls is checked beneath: the mocks are made of the real classes.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.errors import EngineInvalidError, RuntimeUnavailableError
from engines.manifest import Graph, Manifest, Plan, Profile
from engines.runtimes import RuntimeOptions, find
from export.errors import BuildError
from tests.bindings.conftest import VERSION, Simulated
from tests.bindings.test_build import Shown
from tests.bindings.wheels import VERSIONS

ROOT = Path(__file__).parents[2]
PROFILES = (
    Profile(min_samples=1100, opt_samples=8000, max_samples=8000, min_rows=1, opt_rows=2, max_rows=4),
    Profile(min_samples=8001, opt_samples=48000, max_samples=48000, min_rows=1, opt_rows=1, max_rows=2),
)


def said(calls: list[tuple[Any, ...]], bindings: Any) -> list[tuple[Any, ...]]:
    """Return calls with what identifies their arguments: shapes as tuples, mocks by their class."""

    def plain(value: Any) -> Any:
        if isinstance(value, bindings.Dims):
            return tuple(value[:])
        return type(value).__name__ if hasattr(value, "mock_calls") else value

    return [tuple(plain(each) for each in call) for call in calls]


def settings(builder: Any, **changed: Any) -> Any:
    chosen = {"profiles": PROFILES, "outputs": ("logits", "frames"), "level": 4, "workspace": 0, "timing_cache": None}
    return builder.Settings(**{**chosen, **changed})


def test_every_call_of_a_build(host: Simulated, engine: Path, tmp_path: Path) -> None:
    builder = importlib.import_module("export.tensorrt.builder")
    cache = tmp_path / "caches" / "some.timing"
    data = builder.build(engine / "fp16.onnx", settings(builder, workspace=2**30, timing_cache=cache), Shown())
    trt = host.tensorrt.real
    mock = "NonCallableMagicMock"
    flags, pools = trt.BuilderFlag, trt.MemoryPoolType
    assert said(host.tensorrt.calls, trt) == [
        ("Builder.create_network", 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)),
        ("OnnxParser.parse_from_file", str(engine / "fp16.onnx")),
        ("Builder.create_builder_config",),
        ("IBuilderConfig.clear_flag", flags.TF32),
        ("IBuilderConfig.set_flag", flags.DISTRIBUTIVE_INDEPENDENCE),
        ("IBuilderConfig.set_memory_pool_limit", pools.WORKSPACE, 2**30),
        ("Builder.create_optimization_profile",),
        ("IOptimizationProfile.set_shape", "waveform", (1, 1100), (2, 8000), (4, 8000)),
        ("IOptimizationProfile.set_shape", "lengths", (1,), (2,), (4,)),
        ("IBuilderConfig.add_optimization_profile", mock),
        ("Builder.create_optimization_profile",),
        ("IOptimizationProfile.set_shape", "waveform", (1, 8001), (1, 48000), (2, 48000)),
        ("IOptimizationProfile.set_shape", "lengths", (1,), (1,), (2,)),
        ("IBuilderConfig.add_optimization_profile", mock),
        ("IBuilderConfig.create_timing_cache", b""),
        ("IBuilderConfig.set_timing_cache", mock, ("ignore_mismatch", False)),
        ("Builder.build_serialized_network", mock, mock),
    ]
    assert host.tensorrt.config.builder_optimization_level == 4
    assert host.tensorrt.kept == ["logits", "frames"]
    assert b'"outputs": ["logits", "frames"]' in data
    assert cache.read_bytes() == b"!"


def test_what_is_not_asked_for_is_left_as_it_is(host: Simulated, engine: Path) -> None:
    builder = importlib.import_module("export.tensorrt.builder")
    builder.build(engine / "fp16.onnx", settings(builder), Shown())
    assert "IBuilderConfig.set_memory_pool_limit" not in {call[0] for call in host.tensorrt.calls}


@pytest.mark.parametrize(("held", "used"), [(b"times", b"times"), (b"of another GPU", b"")])
def test_times_of_kernels_are_used_where_they_were_measured(
    host: Simulated, engine: Path, tmp_path: Path, held: bytes, used: bytes
) -> None:
    builder = importlib.import_module("export.tensorrt.builder")
    cache = tmp_path / "some.timing"
    cache.write_bytes(held)
    builder.build(engine / "fp16.onnx", settings(builder, timing_cache=cache), Shown())
    assert cache.read_bytes() == used + b"!"
    created = [call[1] for call in host.tensorrt.calls if call[0] == "IBuilderConfig.create_timing_cache"]
    assert created == list(dict.fromkeys((held, used)))


def test_what_the_parser_does_not_take(host: Simulated, tmp_path: Path) -> None:
    builder = importlib.import_module("export.tensorrt.builder")
    with pytest.raises(
        BuildError, match=r"does not take .*: node_0 .DFT.: not supported; node_1 .* node_4 .DFT.: not su"
    ):
        builder.build(tmp_path / "missing.onnx", settings(builder), Shown())
    assert [call[1] for call in host.tensorrt.calls if call[0] == "OnnxParser.get_error"] == [0, 1, 2, 3, 4]


def test_outputs_that_the_graph_has_not(host: Simulated, engine: Path) -> None:
    builder = importlib.import_module("export.tensorrt.builder")
    with pytest.raises(BuildError, match="does not compute nonsense"):
        builder.build(engine / "fp16.onnx", settings(builder, outputs=("logits", "nonsense")), Shown())


def loaded(host: Simulated, engine: Path, profiles: tuple[Profile, ...] = PROFILES) -> Any:
    """Return a session of a plan for `PROFILES`, that engine.json says has `profiles`."""
    builder = importlib.import_module("export.tensorrt.builder")
    data = builder.build(engine / "fp16.onnx", settings(builder), Shown())
    (engine / "some.plan").write_bytes(data)
    source = Manifest.read(engine).graphs[0]
    plan = Plan(
        tensorrt=host.tensorrt.real.__version__,
        compute_capability="9.0",
        device="Simulated GPU",
        profiles=profiles,
        source="fp16",
        source_sha256="0" * 64,
        builder_level=3,
        built="2026-01-01T00:00:00+00:00",
    )
    changes = {"name": "some", "runtime": "tensorrt", "file": "some.plan", "plan": plan, "outputs": ("logits",)}
    graph = Graph.model_validate({**source.model_dump(), **changes})
    return find("tensorrt").load(engine, graph, RuntimeOptions())


def test_every_call_of_a_run(host: Simulated, engine: Path) -> None:
    session = loaded(host, engine)
    assert (session.device, session.inputs, session.outputs) == ("cuda", ("waveform", "lengths"), ("logits", "frames"))
    assert host.tensorrt.last_runtime.engine_host_code_allowed is False
    host.tensorrt.runs.clear()
    host.gpu.calls.clear()
    waveform, lengths = np.zeros((2, 8000), np.float32), np.array([8000, 5000])
    arrays = session.run(waveform, lengths, ["logits"])
    assert {name: array.shape for name, array in arrays.items()} == {"logits": (2, 24, 30)}
    addresses = {call[1]: call[2] for call in host.tensorrt.runs if call[0].endswith("set_tensor_address")}
    assert set(addresses.values()) == set(host.gpu.device)
    [stream] = host.gpu.streams
    switch = ("IExecutionContext.set_optimization_profile_async", 0, stream)
    run = [
        ("IExecutionContext.set_tensor_address", "waveform", addresses["waveform"]),
        ("IExecutionContext.set_input_shape", "waveform", (2, 8000)),
        ("IExecutionContext.set_tensor_address", "lengths", addresses["lengths"]),
        ("IExecutionContext.set_input_shape", "lengths", (2,)),
        ("IExecutionContext.infer_shapes",),
        ("IExecutionContext.get_tensor_shape", "logits"),
        ("IExecutionContext.get_tensor_shape", "frames"),
        ("IExecutionContext.set_tensor_address", "logits", addresses["logits"]),
        ("IExecutionContext.set_tensor_address", "frames", addresses["frames"]),
        ("IExecutionContext.execute_async_v3", stream),
    ]
    assert host.tensorrt.runs == [switch, *run]
    grown = ["cudaMalloc", "cudaMallocHost"]
    copy = "cudaMemcpyAsync"
    assert host.gpu.calls == [
        "cudaSetDevice",
        *grown,
        copy,
        *grown,
        copy,
        *grown,
        *grown,
        copy,
        "cudaStreamSynchronize",
    ]

    host.tensorrt.runs.clear()
    host.gpu.calls.clear()
    again = session.run(waveform, lengths, ["logits"])
    assert np.array_equal(again["logits"], arrays["logits"])
    assert host.tensorrt.runs == run  # no switch
    assert host.gpu.calls == ["cudaSetDevice", copy, copy, copy, "cudaStreamSynchronize"]  # nor memory


def test_a_session_gives_back_what_it_has(host: Simulated, engine: Path) -> None:
    session = loaded(host, engine)
    for samples in (8000, 48000, 2000):
        session.run(np.zeros((1, samples), np.float32), np.array([samples]), ["logits", "frames"])
    assert len(host.gpu.device) == len(host.gpu.pinned) == 4  # those that it has grown out of are free
    assert {call[1] for call in host.tensorrt.runs if call[0].endswith("profile_async")} == {0, 1}
    del session
    assert (host.gpu.device, host.gpu.pinned, host.gpu.streams) == ({}, {}, {})


def test_results_are_not_views_of_what_the_next_batch_overwrites(host: Simulated, engine: Path) -> None:
    session = loaded(host, engine)
    tone = np.sin(np.arange(8000) / 20, dtype=np.float32)[None]
    first = session.run(tone, np.array([8000]), ["logits"])["logits"]
    kept = first.copy()
    session.run(-tone, np.array([4000]), ["logits"])
    assert np.array_equal(first, kept)


def test_lengths_that_no_profile_takes(host: Simulated, engine: Path) -> None:
    session = loaded(host, engine)
    with pytest.raises(RuntimeUnavailableError, match=r"no profile of the plan takes 48001 samples"):
        session.run(np.zeros((1, 48001), np.float32), np.array([48001]), ["logits"])


def test_a_plan_with_other_profiles_than_are_stated(host: Simulated, engine: Path) -> None:
    with pytest.raises(EngineInvalidError, match=r"some.plan has other profiles than engine.json says; build it again"):
        loaded(host, engine, PROFILES[:1])


def test_what_tensorrt_says_goes_to_the_log(host: Simulated, caplog: pytest.LogCaptureFixture) -> None:
    log = importlib.import_module("engines.runtimes.tensorrt.log").Log()
    caplog.set_level(logging.DEBUG, "engines.tensorrt")
    levels = host.tensorrt.real.ILogger.Severity
    for level in (levels.VERBOSE, levels.INFO, levels.WARNING, levels.ERROR, levels.INTERNAL_ERROR):
        log.log(level, f"said as {level.name}")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("DEBUG", "said as INFO"),
        ("WARNING", "said as WARNING"),
        ("ERROR", "said as ERROR"),
        ("ERROR", "said as INTERNAL_ERROR"),
    ]
    assert str(log.error("it fails", "try")) == "it fails (said as ERROR); try"
    log.forget()
    assert str(log.error("it fails", "try")) == "it fails (TensorRT gives no reason); try"


WRONG = {
    "a name": (r"\.set_input_shape\(", ".set_shape("),
    "an order": (r"set_input_shape\(name, array.shape\)", "set_input_shape(array.shape, name)"),
    "a type": (r"set_input_shape\(name, array.shape\)", "set_input_shape(name, array.size)"),
    "a call too few": (
        r"self._log.forget\(\)\n        try:\n            self._switch\(index\)",
        "try:\n            pass",
    ),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_changed_call_is_noticed(host: Simulated, engine: Path, change: str) -> None:
    session = importlib.import_module("engines.runtimes.tensorrt.session")
    text = Path(str(session.__file__)).read_text()
    changed, count = re.subn(*WRONG[change], text)
    assert count == 1
    exec(compile(changed, "changed", "exec"), vars(session))  # noqa: S102
    with pytest.raises((AttributeError, TypeError, AssertionError)):
        test_every_call_of_a_run(host, engine)


@pytest.mark.slow
@pytest.mark.parametrize("version_", VERSIONS[1:])
def test_all_of_this_with_the_next_version(version_: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/bindings"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, VERSION: version_})
    assert done.returncode == 0, done.stdout[-3000:]
