"""From an fp16 graph to a plan that is served, on a simulated GPU host."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.engine import Engine
from engines.errors import EngineError, EngineMismatchError, OutOfMemoryError, RuntimeUnavailableError
from engines.manifest import Manifest
from engines.runtimes import RuntimeOptions
from engines.verify import error
from export.errors import BuildError
from export.tensorrt.build import Request, build, source_hash
from sonant.cli import main
from tests.bindings.conftest import Simulated
from tests.bindings.simulation import Arrays

ROOT = Path(__file__).parents[2]
BUCKETS = (0.3, 3.0)
GPU = RuntimeOptions(runtime="tensorrt", precision="fp16")


class Shown:
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        self.said.append(("begin", phase, parent, steps))

    def advance(self, phase: str, steps: int) -> None:
        self.said.append(("advance", phase, steps))

    def end(self, phase: str) -> None:
        self.said.append(("end", phase))


def made(folder: Path, **request: Any) -> Any:
    return build(folder, Request(**{"buckets": BUCKETS, "rows": 3, **request}), lambda step: None, Shown())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def planned(host: Simulated, engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine with a plan, which is built once."""
    kept = tmp_path_factory.getbasetemp() / "planned"
    if not kept.exists():
        made(engine)
        shutil.copytree(engine, kept)
    return Path(shutil.copytree(kept, engine, dirs_exist_ok=True))


def test_a_plan_is_built_proved_added_and_served(host: Simulated, engine: Path) -> None:
    before = Manifest.read(engine)
    display = Shown()
    steps: list[str] = []
    _, checks = build(engine, Request(buckets=BUCKETS, rows=3), steps.append, display)
    manifest = Manifest.read(engine)
    assert manifest.graphs == (*before.graphs, manifest.graphs[-1])
    added = manifest.graphs[-1]
    assert (added.name, added.form, added.devices, added.outputs) == (
        "tensorrt.fp16.sm90", "tensorrt/fp16", ("cuda",), ("embeddings", "logits"),
    )  # fmt: skip
    assert added.plan is not None
    assert (added.plan.tensorrt, added.plan.compute_capability) == (host.tensorrt.real.__version__, "9.0")
    source = next(each for each in manifest.graphs if each.name == "fp16")
    assert (added.plan.source, added.plan.source_sha256) == ("fp16", source_hash(source))
    assert set(added.errors) == {"embeddings", "logits"}
    assert max(added.errors.values()) < 1e-5
    assert {check.output for check in checks} == {
        "embeddings", "logits", "embeddings, equal rows", "logits, equal rows",
    }  # fmt: skip
    assert all(check.ok for check in checks)
    assert not list(engine.glob(".partial*"))
    assert steps[1] == f"Building the plan for Simulated GPU, TensorRT {added.plan.tensorrt}, 2 profiles"
    assert display.said[:3] == [
        ("begin", "Building", None, 2),
        ("begin", "Timing", "Building", 3),
        ("advance", "Timing", 3),
    ]

    served = Engine(engine, options=GPU)
    clips = [np.sin(np.arange(size) / 30, dtype=np.float32) for size in (4000, 9000, 30000)]
    exact = Engine(engine, options=RuntimeOptions("cpu", runtime="onnxruntime", precision="fp32"))
    for several in ([clips[0]], clips, clips * 3):  # more rows than a batch of the plan takes
        for row, truth in zip(served.run(several, ["logits"]), exact.run(several, ["logits"]), strict=True):
            assert error(row["logits"], truth["logits"]) < 1e-5
    assert served.device == "cuda"
    assert served.fallbacks == 0


def test_what_a_plan_does_not_take_is_run_by_the_onnx_graph(host: Simulated, planned: Path) -> None:
    served = Engine(planned, options=GPU)
    clip = np.sin(np.arange(8 * 16000) / 30, dtype=np.float32)  # longer than the last profile
    [row] = served.run([clip], ["logits"])
    [state] = served.run([clip[:16000]], ["hidden_states.1"])  # which the plan has not
    exact = Engine(planned, options=RuntimeOptions("cpu", runtime="onnxruntime", precision="fp32"))
    assert error(row["logits"], exact.run([clip], ["logits"])[0]["logits"]) < 1e-5
    assert state["hidden_states.1"].shape == (47, 144)
    assert served.fallbacks == 0


def wrong_beyond_one_row(inputs: Arrays, outputs: Arrays) -> Arrays:
    return {name: array + (array.dtype == np.float32) * (len(array) > 1) for name, array in outputs.items()}


def wrong_in_short_batches(inputs: Arrays, outputs: Arrays) -> Arrays:
    short = inputs["waveform"].shape[1] < 0.3 * 16000
    return {name: array * (1 + (array.dtype == np.float32) * 0.1 * short) for name, array in outputs.items()}


def wrong_in_the_last_row(inputs: Arrays, outputs: Arrays) -> Arrays:
    changed = {name: array.copy() for name, array in outputs.items()}
    if len(changed["logits"]) == 3:
        changed["logits"][-1] *= 1.1
    return changed


def nothing_but_nan(inputs: Arrays, outputs: Arrays) -> Arrays:
    return {**outputs, "embeddings": np.full_like(outputs["embeddings"], np.nan)}


def padding_is_read(inputs: Arrays, outputs: Arrays) -> Arrays:
    read = np.isnan(inputs["waveform"]).any()
    return {name: array + (array.dtype == np.float32) * read for name, array in outputs.items()}


def nearly_right(inputs: Arrays, outputs: Arrays) -> Arrays:
    """Within the bound of the error, but the rows of a batch differ by more than the precision costs."""
    changed = {name: array.copy() for name, array in outputs.items()}
    if len(changed["embeddings"]) == 3:
        changed["embeddings"][-1] += np.float32(5e-6) * np.abs(changed["embeddings"]).max()
    return changed


FAULTS = (
    wrong_beyond_one_row,
    wrong_in_short_batches,
    wrong_in_the_last_row,
    nothing_but_nan,
    padding_is_read,
    nearly_right,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plan_that_is_silently_wrong_is_not_added(
    host: Simulated, engine: Path, fault: Callable[[Arrays, Arrays], Arrays]
) -> None:
    before = files(engine)
    host.tensorrt.fault = fault
    with pytest.raises(BuildError, match=r"does not compute what fp16 does and was not added \(.* in a batch of"):
        made(engine)
    assert files(engine) == before


def test_a_plan_that_has_become_wrong_is_not_served(
    host: Simulated, planned: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.tensorrt.fault = wrong_in_the_last_row
    served = Engine(planned, options=GPU)
    plan = next(graph for graph in served.graphs if graph.plan)
    with pytest.raises(EngineMismatchError, match=r"logits in a batch of 3 x"):
        served.load(plan)
    clip = np.sin(np.arange(8000) / 30, dtype=np.float32)
    assert np.isfinite(served.run([clip], ["logits"])[0]["logits"]).all()
    assert served.form.name == "onnxruntime/fp32"
    assert served.fallbacks == 1
    assert "tensorrt/fp16 is not used any more, onnxruntime/fp32 is" in caplog.text


def test_a_plan_that_fails_while_it_is_served_is_given_up(
    host: Simulated, planned: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = Engine(planned, options=GPU)
    clip = np.sin(np.arange(8000) / 30, dtype=np.float32)
    served.run([clip], ["logits"])
    host.tensorrt.failure = "Cuda failure: out of memory"
    with pytest.raises(OutOfMemoryError, match=r"a batch fails .Cuda failure: out of memory"):  # a smaller one may not
        served.run([clip], ["logits"])
    assert served.form.name == "tensorrt/fp16"
    host.tensorrt.failure = "Cuda failure: an illegal memory access"
    assert np.isfinite(served.run([clip], ["logits"])[0]["logits"]).all()
    assert served.form.name == "onnxruntime/fp32"
    assert "a batch fails (Cuda failure: an illegal memory access); build it again" in caplog.text


def test_a_plan_of_another_gpu_is_refused_and_stays(host: Simulated, planned: Path) -> None:
    host.gpu.capability = (12, 0)
    with pytest.raises(
        RuntimeUnavailableError, match=r"compute capability 9.0, this host has .* 12.0: run `sonant build`"
    ):
        Engine(planned, options=GPU)
    graph, _ = made(planned)
    assert graph.name == "tensorrt.fp16.sm120"
    plans = {each.name for each in Manifest.read(planned).graphs if each.plan}
    assert plans == {"tensorrt.fp16.sm90", "tensorrt.fp16.sm120"}
    served = Engine(planned, options=GPU)
    assert [each.name for each in served.form.graphs] == ["tensorrt.fp16.sm120"]


def test_a_plan_of_another_version_is_refused(host: Simulated, planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.17.0.1")
    with pytest.raises(RuntimeUnavailableError, match=r"this host has TensorRT 10.17.0.1"):
        Engine(planned, options=GPU)


def test_a_plan_is_replaced(host: Simulated, planned: Path) -> None:
    [first] = [graph for graph in Manifest.read(planned).graphs if graph.plan]
    second, _ = made(planned, rows=2)
    assert first.file != second.file
    assert {path.name for path in planned.glob("*.plan")} == {second.file}
    [plan] = [graph.plan for graph in Manifest.read(planned).graphs if graph.plan]
    assert {profile.max_rows for profile in plan.profiles} == {2}


def test_a_plan_that_the_runtime_does_not_take(host: Simulated, planned: Path) -> None:
    host.tensorrt.taken = False
    with pytest.raises(EngineError, match=r"does not take it .The engine plan file is not compatible.; build it again"):
        Engine(planned, options=GPU).load(Manifest.read(planned).graphs[-1])


def test_what_the_builder_says_is_told(host: Simulated, engine: Path) -> None:
    before = files(engine)
    host.tensorrt.said = ["Could not find any implementation for node {conv}", "later"]
    with pytest.raises(BuildError, match=r"cannot build .*fp16.onnx .Could not find any implementation for node"):
        made(engine)
    host.tensorrt.said = ["Requested amount of GPU memory (9 bytes) could not be allocated"]
    with pytest.raises(OutOfMemoryError, match="could not be allocated"):
        made(engine)
    assert files(engine) == before


def test_a_gpu_that_is_full(host: Simulated, engine: Path) -> None:
    host.gpu.memory = 100_000
    with pytest.raises(OutOfMemoryError, match=r"not enough memory for an array \[\d+, \d+\] on the GPU"):
        made(engine)
    assert not list(engine.glob("*.plan"))


def test_ctrl_c_stops_the_builder_and_leaves_the_engine(host: Simulated, engine: Path) -> None:
    class Interrupting(Shown):
        def begin(self, phase: str, parent: str | None, steps: int) -> None:
            signal.raise_signal(signal.SIGINT)

    before, handler = files(engine), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build(engine, Request(buckets=BUCKETS), lambda step: None, Interrupting())
    assert files(engine) == before
    assert signal.getsignal(signal.SIGINT) == handler


def test_a_build_that_was_killed_leaves_what_the_next_removes(host: Simulated, engine: Path) -> None:
    left = engine / ".partial-dead"
    left.mkdir()
    (left / "tensorrt.fp16.sm90.plan").write_bytes(b"half of a plan")
    assert Engine(engine).manifest == Manifest.read(engine)
    made(engine)
    assert not left.exists()


def test_one_build_at_a_time(host: Simulated, engine: Path) -> None:
    def again(step: str) -> None:
        with pytest.raises(BuildError, match="another plan is being built"):
            made(engine)

    build(engine, Request(buckets=BUCKETS, rows=1), again, Shown())


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"precision": "bf16"}, "has no bf16 graph: export the engine again with --precision fp32,bf16"),
        ({"outputs": ("nonsense",)}, r"--outputs nonsense: graph fp16 computes embeddings"),
        ({"outputs": ("hidden_states.1",)}, r"--outputs hidden_states.1: add one that proves the plan"),
        ({"buckets": (0.5, 1)}, r"--buckets: the last must be 3 s or more"),
    ],
)
def test_what_cannot_be_built(host: Simulated, engine: Path, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        made(engine, **request_)


def test_a_folder_that_is_no_engine(host: Simulated, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(EngineError):
            made(folder)


def test_the_chosen_outputs(host: Simulated, engine: Path) -> None:
    graph, _ = made(engine, outputs=("logits",))
    assert graph.outputs == ("logits",)
    [data] = [json.loads(path.read_bytes()) for path in engine.glob("*.plan")]
    assert data["outputs"] == ["logits", "frames"]


def test_the_command(
    host: Simulated, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["build", str(engine), "--buckets", "0.3,3", "--rows", "2", "--outputs", "logits"]) == 0
    said = capsys.readouterr()
    assert "Added tensorrt.fp16.sm90 to" in said.out
    assert "logits, equal rows" in said.out
    assert [path.name for path in (tmp_path / "cache" / "sonant").iterdir()] == [
        f"tensorrt-{host.tensorrt.real.__version__}-9.0.timing"
    ]
    host.tensorrt.said = ["no"]
    assert main(["build", str(engine), "--precision", "fp16", "--level", "5", "--workspace", "0.5"]) == 1
    assert "TensorRT cannot build" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--buckets", "1,x"], ["--rows", "0"], ["--workspace", "much"], ["--level", "6"]])
def test_wrong_flags(flags: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["build", "engine", *flags])


def test_building_imports_neither_torch_nor_transformers_nor_onnx(tmp_path: Path) -> None:
    heavy = ["torch", "transformers", "onnx", "onnx_ir", "onnxscript"]
    code = (
        f"import sys; from sonant.cli import main; main(['build', {str(tmp_path)!r}]); import export.tensorrt.build;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert "is not an engine" in done.stderr
