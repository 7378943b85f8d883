from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from engines.engine import Engine
from engines.forms import Refused
from engines.runtimes import RuntimeOptions
from server.models import forms
from server.models.model import Served
from tests.server.models.two_forms import ERROR, break_it, place

INT8, ALL = "onnxruntime/int8", RuntimeOptions("cpu", 1, max_error=1.0)
QUALITY = {"measure": "top_1", "value": 0.9, "fp32": 0.91, "agreement": 0.99, "clips": 100, "data": "the demo's"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return place(tmp_path / "any", cosines={"logits": 0.9995, "pooled": 0.9999}, quality=[QUALITY], verified=False)


def served(engine: Engine) -> Served:
    return Served(engine, None, form_bytes=forms.sizes(engine))  # type: ignore[arg-type]


def test_what_a_client_may_know(folder: Path) -> None:
    engine = Engine(folder, options=ALL)
    exact, int8 = forms.describe(engine, served(engine), folder.parent)
    assert (exact.runtime, exact.precision, exact.in_use, exact.reason) == ("onnxruntime", "fp32", False, None)
    assert (int8.precision, int8.in_use, int8.reason) == ("int8", True, None)
    assert (exact.verified, int8.verified) == (True, False)
    assert int8.error == ERROR
    assert set(int8.errors.values()) == {ERROR}
    assert set(int8.errors) == set(exact.errors) >= {"logits", "embeddings"}
    assert exact.error is not None
    assert exact.error == max(exact.errors.values()) < 1e-4
    assert (exact.cosine, int8.cosine) == (None, 0.9995)
    assert (exact.quality, [each.model_dump() for each in int8.quality]) == ([], [QUALITY])
    assert exact.file_bytes == sum((folder / name).stat().st_size for name in ("fp32.onnx", "fp32.weights"))
    engine.load_first()
    assert forms.describe(engine, served(engine), folder.parent)[1].verified
    assert forms.describe(engine, None, folder.parent)[1].file_bytes is None
    assert not forms.describe(engine, None, folder.parent)[1].in_use


def test_why_a_form_is_not_used(folder: Path) -> None:
    engine = Engine(folder, options=replace(ALL, max_error=1e-4))
    [_, int8] = forms.describe(engine, served(engine), folder.parent)
    assert int8.reason == "its error, 1.0e-02, is above 1.0e-04"
    break_it(folder)
    engine = Engine(folder, options=ALL)
    engine.load_first()
    exact, int8 = forms.describe(engine, served(engine), folder.parent)
    assert exact.in_use
    assert int8.reason
    assert int8.reason.startswith("any/int8.onnx is not the file that was exported")


def test_an_error_that_is_larger_here_than_it_may_be_is_one_more_reason(folder: Path, tmp_path: Path) -> None:
    """At export it was said to have none."""
    exact = place(tmp_path / "exact", errors={"logits": 1e-9, "pooled": 1e-9})
    engine = Engine(exact, options=replace(ALL, max_error=1e-8))
    engine.load_first()
    assert engine.form.name == "onnxruntime/fp32"
    assert "is above 1.0e-08" in engine.given_up[INT8]
    engine = Engine(exact, options=replace(ALL, max_error=1e-8, precision="int8"))
    engine.load_first()
    assert engine.form.name == INT8


@pytest.mark.parametrize(
    ("options", "level"),
    [
        (RuntimeOptions("cpu"), logging.DEBUG),
        (RuntimeOptions("cpu", max_error=1e-3), logging.INFO),
        (RuntimeOptions("cpu", precision="fp32"), logging.INFO),
        (RuntimeOptions("cpu", runtime="onnxruntime"), logging.INFO),
    ],
)
def test_why_is_said_where_the_operator_asked_for_something(
    folder: Path, caplog: pytest.LogCaptureFixture, options: RuntimeOptions, level: int
) -> None:
    caplog.set_level(logging.DEBUG)
    forms.tell(Engine(folder, options=options), options)
    used, refused = caplog.records
    assert used.getMessage().startswith("model any runs in onnxruntime/fp32, error ")
    assert refused.getMessage().startswith(f"model any: {INT8} is not used: ")
    assert (used.levelno, refused.levelno) == (logging.INFO, level)


@pytest.mark.parametrize(
    ("gpu", "device", "wanted", "level"),
    [
        (True, "auto", True, logging.WARNING),
        (False, "auto", True, logging.DEBUG),
        (True, "cpu", True, logging.DEBUG),
        (True, "auto", False, logging.DEBUG),
    ],
)
def test_a_plan_that_does_not_match_the_gpu_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gpu: bool, device: str,
    wanted: bool, level: int,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("engines.runtimes.cuda.device", lambda number: "any" if gpu else None)
    engine = Engine(folder, options=RuntimeOptions("cpu"))
    refused = Refused("tensorrt/fp16", "it was built for 8.0", wanted)
    engine.forms = replace(engine.forms, refused=(refused,))
    forms.tell(engine, RuntimeOptions(device))  # type: ignore[arg-type]
    assert caplog.records[-1].levelno == level
    assert caplog.messages[-1] == "model any: tensorrt/fp16 is not used: it was built for 8.0"
