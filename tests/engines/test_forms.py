from __future__ import annotations

from typing import Any

import pytest

from engines import forms, runtimes
from engines.errors import RuntimeUnavailableError
from engines.manifest import Graph, Manifest
from engines.runtimes import RuntimeOptions
from tests.engines.test_consistency import ctc, graph, plan, writer


class Host:
    """A runtime on a host of one kind of device; it is not installed where there is none."""

    def __init__(self, device: str | None) -> None:
        self.device = device

    def refusal(self, graph: Graph, options: RuntimeOptions) -> str | None:
        if self.device is None:
            raise RuntimeUnavailableError("it is not installed")
        if graph.plan and graph.plan.compute_capability != "9.0":
            return f"it was built for {graph.plan.compute_capability}"
        return None if self.device in graph.devices else f"it is of no use on {self.device}"


def manifest(*more: tuple[str, str, str, float, dict[str, Any]]) -> Manifest:
    """An engine with fp32, and more graphs: name, runtime, precision, error and what else they say."""
    data = ctc()
    for name, runtime, precision, error, other in more:
        outputs = ["embeddings", "hidden_states.0"]
        each = graph(name, outputs, 2) | {"runtime": runtime, "precision": precision, "errors": {"embeddings": error}}
        data["graphs"].append(each | other)
    data["graphs"][0]["errors"] = {"embeddings": 1e-6}
    data["graphs"][1]["errors"] = {"hidden_states.0": 1e-6}
    return Manifest.model_validate(data)


CPU, CUDA = {"devices": ["cpu"]}, {"devices": ["cuda"]}
MANY = manifest(
    ("int8", "onnxruntime", "int8", 2e-2, CPU),
    ("openvino.fp32", "openvino", "fp32", 2e-6, CPU),
    ("openvino.bf16", "openvino", "bf16", 1e-2, CPU),
    ("fp16", "onnxruntime", "fp16", 2e-3, CUDA),
    ("plan.sm90", "tensorrt", "fp16", 3e-3, CUDA | {"plan": plan()}),
    ("plan.sm80", "tensorrt", "fp16", 3e-3, CUDA | {"plan": plan() | {"compute_capability": "8.0"}}),
)


def find(monkeypatch: pytest.MonkeyPatch, device: str | None, options: RuntimeOptions) -> forms.Forms:
    monkeypatch.setattr(runtimes, "find", lambda name: Host(device))
    return forms.find(MANY, options)


def names(found: forms.Forms) -> list[str]:
    return [form.name for form in found.usable]


def test_by_itself_only_what_is_exact_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(monkeypatch, "cpu", RuntimeOptions())
    assert names(found) == ["onnxruntime/fp32", "openvino/fp32"]
    assert found.base is found.usable[0]
    reasons = {refused.name: refused.reason for refused in found.refused}
    assert reasons["onnxruntime/int8"] == "its error, 2.0e-02, is above 1.0e-04"


@pytest.mark.parametrize(
    ("device", "bound", "expected"),
    [
        ("cpu", 1e-2, ["openvino/bf16", "onnxruntime/fp32", "openvino/fp32"]),
        ("cpu", 1e-1, ["onnxruntime/int8", "openvino/bf16", "onnxruntime/fp32", "openvino/fp32"]),
        ("cuda", 2e-3, ["onnxruntime/fp16", "onnxruntime/fp32"]),
        ("cuda", 1e-1, ["tensorrt/fp16", "onnxruntime/fp16", "onnxruntime/fp32"]),
    ],
)
def test_the_operator_says_what_error_may_be(
    monkeypatch: pytest.MonkeyPatch, device: str, bound: float, expected: list[str]
) -> None:
    assert names(find(monkeypatch, device, RuntimeOptions(max_error=bound))) == expected


def test_a_precision_that_is_asked_for_may_have_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(monkeypatch, "cpu", RuntimeOptions(precision="int8"))
    assert names(found) == ["onnxruntime/int8"]
    assert found.base.name == "onnxruntime/fp32"
    assert found.find("openvino/bf16") is None


def test_of_the_plans_only_those_for_the_device_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(monkeypatch, "cuda", RuntimeOptions(runtime="tensorrt", max_error=1))
    assert [graph.name for graph in found.usable[0].graphs] == ["plan.sm90"]


def test_where_nothing_is_usable_all_reasons_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        find(monkeypatch, "cpu", RuntimeOptions(runtime="tensorrt", max_error=1))
    assert "tensorrt/fp16: it is of no use on cpu; it was built for 8.0" in str(caught.value)
    assert "openvino/bf16: the runtime is set to tensorrt" in str(caught.value)


def test_a_runtime_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeUnavailableError, match="onnxruntime/fp32: it is not installed"):
        find(monkeypatch, None, RuntimeOptions())


def test_a_form_that_cannot_start_a_decoder_comes_after_those_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    data = writer()
    for each in data["graphs"]:
        each["errors"] = dict.fromkeys(each["outputs"], 1e-6)
    data["graphs"].append(data["graphs"][0] | CPU | {"name": "int8", "precision": "int8"})
    monkeypatch.setattr(runtimes, "find", lambda name: Host("cpu"))
    found = forms.find(Manifest.model_validate(data), RuntimeOptions())
    assert names(found) == ["onnxruntime/fp32", "onnxruntime/int8"]


def test_the_error_of_a_form_is_the_worst_of_its_graphs() -> None:
    graphs = [each for each in MANY.graphs if each.form == "onnxruntime/fp32"]
    form = forms.Form("any", "onnxruntime", "fp32", tuple(graphs))
    assert form.error == 1e-6
    assert forms.Form("any", "onnxruntime", "fp32", ()).error == float("inf")
