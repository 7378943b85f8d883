from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from engines.manifest import Manifest

SHA256 = "0" * 64
Data = dict[str, Any]


def frames(name: str, size: int = 4) -> Data:
    return {"name": name, "shape": ["batch", "frames", size], "lengths": "frames", "samples_per_frame": 320}


def graph(name: str, outputs: list[str], layers: int, role: str = "encode") -> Data:
    file = f"{name}.onnx"
    return {
        "name": name,
        "role": role,
        "precision": "fp32",
        "runtime": "onnxruntime",
        "file": file,
        "sha256": {file: SHA256},
        "outputs": outputs,
        "layers": layers,
        "opset": 20,
        "errors": {},
    }


def plan(**rows: int) -> Data:
    profile = {f"{bound}_{what}": 1 for bound in ("min", "opt", "max") for what in ("samples", "rows")} | rows
    return {
        "tensorrt": "10.16.1",
        "compute_capability": "9.0",
        "device": "any",
        "profiles": [profile],
        "source": "fp16.onnx",
        "source_sha256": SHA256,
        "builder_level": 3,
        "built": "2026-01-01T00:00:00Z",
    }


def ctc() -> Data:
    """An engine of two layers that transcribes, with a graph that stops after the first."""
    outputs = ["embeddings", "pooled", "logits", "hidden_states.0", "hidden_states.1", "hidden_states.2"]
    arrays = {name: frames(name) for name in outputs}
    arrays |= {"pooled": {"name": "pooled", "shape": ["batch", 4]}, "logits": frames("logits", 3)}
    return {
        "family": "any",
        "tasks": ["encode", "transcribe"],
        "checkpoint": {"source": "any", "revision": None, "sha256": SHA256, "architecture": "Any", "license": None},
        "sample_rate": 16_000,
        "min_samples": 400,
        "max_samples": 480_000,
        "preprocessor": {},
        "hidden_size": 4,
        "num_layers": 2,
        "parameters": 1,
        "outputs": list(arrays.values()),
        "ctc": {"vocabulary": ["<pad>", "|", "a"], "blank": 0, "skipped": [], "word_delimiter": "|"},
        "graphs": [graph("fp32", [*outputs], 2), graph("fp32.layers1", ["hidden_states.0", "hidden_states.1"], 1)],
        "golden": {"sha256": SHA256, "clips": 1, "outputs": ["embeddings", "hidden_states.0"]},
        "created": {},
    }


def classifier() -> Data:
    """The same encoder with two labels."""
    data = ctc() | {"tasks": ["encode", "classify"], "ctc": None}
    data["outputs"][2] = {"name": "logits", "shape": ["batch", 2]}
    return data | {"classification": {"labels": ["no", "yes"], "problem_type": "single_label_classification"}}


def writer() -> Data:
    """The same encoder, without logits, before a decoder of one layer."""
    data = without_logits(ctc()) | {"ctc": None, "tasks": ["encode", "transcribe"]}
    cross = ["cross.0.key", "cross.0.value"]
    data["graphs"] += [graph("fp32.start", cross, 2, "start"), graph("fp32.step", ["logits"], 0, "step")]
    data["golden"] |= {"cross": cross, "tokens": 2}
    data["generation"] = {
        "tokenizer": "tokenizer.json",
        "tokenizer_sha256": SHA256,
        "layers": 1,
        "heads": 1,
        "head_size": 4,
        "vocabulary_size": 3,
        "start_token": 0,
        "eos_tokens": [1],
        "pad_token": 0,
        "skipped": [0, 1],
        "clean_up_spaces": False,
        "search": {"max_length": 9},
    }
    return data


def without_logits(data: Data) -> Data:
    """Return `data` of an engine whose logits were left out: its vocabulary or labels stay."""
    data["outputs"] = [output for output in data["outputs"] if output["name"] != "logits"]
    data["graphs"][0]["outputs"].remove("logits")
    return data | {"tasks": ["encode"]}


def output(data: Data, name: str) -> Data:
    found: Data = next(one for one in data["outputs"] if one["name"] == name)
    return found


def rename(data: Data, name: str, new: str) -> None:
    """Rename an output wherever it is named."""
    output(data, name)["name"] = new
    for outputs in (data["golden"]["outputs"], *(graph["outputs"] for graph in data["graphs"])):
        outputs[:] = [new if one == name else one for one in outputs]


def drop(data: Data, name: str) -> None:
    """Leave out an output, but none of the tasks."""
    data["outputs"].remove(output(data, name))
    for outputs in (data["golden"]["outputs"], *(graph["outputs"] for graph in data["graphs"])):
        outputs[:] = [one for one in outputs if one != name]


def twice(values: list[Any]) -> None:
    values.append(values[0])


def again(data: Data, index: int, name: str) -> None:
    """Add a graph that differs in its name from one that there is."""
    data["graphs"].append(data["graphs"][index] | {"name": name})


def read(data: Data, index: int, file: str) -> None:
    """Let a graph read one more file."""
    data["graphs"][index]["sha256"][file] = SHA256


Change = Callable[[Data], object]
REFUSALS: list[tuple[Callable[[], Data], Change, str]] = [
    # names
    (ctc, lambda data: twice(data["outputs"]), "two outputs are called embeddings"),
    (ctc, lambda data: twice(data["graphs"]), "two graphs are called fp32"),
    (ctc, lambda data: twice(data["graphs"][0]["outputs"]), "graph fp32 names embeddings twice"),
    (ctc, lambda data: data["graphs"][0]["outputs"].append("x"), "graph fp32 has outputs that the engine has not: x"),
    (ctc, lambda data: data["golden"]["outputs"].append("x"), "golden has outputs that the engine has not: x"),
    (ctc, lambda data: twice(data["golden"]["outputs"]), "golden names embeddings twice"),
    *(
        (ctc, lambda data, new=name: rename(data, "hidden_states.2", new), f"output {name}: the hidden states have")
        for name in ("hidden_states.x", "hidden_states.", "hidden_states.3", "hidden_states.02", "hidden_states.-1")
    ),
    (ctc, lambda data: rename(data, "hidden_states.2", "hidden_states.\u0662"), "have the numbers 0 to 2"),
    (ctc, lambda data: rename(data, "hidden_states.2", "hidden_states." + "9" * 5000), "have the numbers 0 to 2"),
    # axes
    (ctc, lambda data: output(data, "embeddings").update(lengths=None), "embeddings: a time axis goes with lengths"),
    (ctc, lambda data: output(data, "pooled").update(samples_per_frame=9), "pooled: samples_per_frame goes with"),
    (ctc, lambda data: output(data, "pooled").update(lengths="frames"), "pooled: a time axis goes with lengths"),
    (ctc, lambda data: output(data, "embeddings").update(shape=["batch", 7, 4]), "embeddings: a time axis goes with"),
    (ctc, lambda data: output(data, "embeddings").update(shape=["frames", "batch", 4]), "first axis is not batch"),
    (ctc, lambda data: output(data, "pooled").update(shape=[]), "pooled: its first axis is not batch"),
    (ctc, lambda data: output(data, "embeddings").update(lengths="pooled"), "its lengths, pooled, are an output"),
    # layers
    (ctc, lambda data: data["graphs"][1].update(layers=3), "graph fp32.layers1 runs 3 layers, the encoder has 2"),
    (ctc, lambda data: data["graphs"].pop(0), "no graph onnxruntime/fp32 of role encode runs all 2"),
    (ctc, lambda data: data["graphs"][0].update(precision="fp16"), "no graph onnxruntime/fp32 of role encode"),
    (ctc, lambda data: data["graphs"][1].update(runtime="tensorrt"), "plan goes with the runtime tensorrt"),
    (ctc, lambda data: data["graphs"][1].update(plan=plan()), "plan goes with the runtime tensorrt"),
    (ctc, lambda data: data["graphs"][1].update(runtime="tensorrt", plan=plan(opt_rows=3)), "must have min <= opt"),
    (ctc, lambda data: data["graphs"][1].update(devices=[]), "graph fp32.layers1: it is of use on no device"),
    (ctc, lambda data: data["outputs"].append(frames("x")), "graph fp32 runs every layer, but lacks outputs of the"),
    (ctc, lambda data: data["graphs"][0]["outputs"].remove("pooled"), "lacks outputs of the engine: pooled"),
    (ctc, lambda data: data["graphs"][1].update(layers=2), "graph fp32.layers1 runs every layer, but lacks"),
    # the decoder
    (writer, lambda data: again(data, 2, "other"), "onnxruntime/fp32 has 2 and 1"),
    (writer, lambda data: again(data, 3, "other"), "onnxruntime/fp32 has 1 and 2"),
    (writer, lambda data: data["graphs"].pop(2), "role start and one of role step, onnxruntime/fp32 has 0 and 1"),
    (writer, lambda data: data["graphs"][3].update(precision="int8"), "onnxruntime/fp32 has 1 and 0"),
    (writer, lambda data: data["graphs"][2].update(max_rows=1), "graph fp32.start: max_rows is for graphs of role"),
    (writer, lambda data: data["graphs"][3].update(max_rows=1), "graph fp32.step: max_rows is for graphs of role"),
    (writer, lambda data: data.update(generation=None), "graphs or golden clips of a decoder, but no generation"),
    (ctc, lambda data: data["golden"].update(tokens=2), "graphs or golden clips of a decoder, but no generation"),
    # files and proofs
    (ctc, lambda data: data["graphs"][0]["sha256"].clear(), "graph fp32: sha256 lacks fp32.onnx"),
    (ctc, lambda data: data["golden"].update(file="fp32.onnx"), "graph fp32 reads fp32.onnx, the file of the golden"),
    (ctc, lambda data: read(data, 1, "golden.safetensors"), "graph fp32.layers1 reads golden.safetensors"),
    (writer, lambda data: read(data, 3, "tokenizer.json"), "graph fp32.step reads tokenizer.json, the file of the tok"),
    (ctc, lambda data: data["golden"].update(outputs=["pooled"]), "graph fp32.layers1 has no output that the golden"),
    (ctc, lambda data: data.update(min_samples=500_000), "min_samples 500000 is above max_samples 480000"),
    # tasks
    (ctc, lambda data: drop(data, "embeddings"), "the task encode needs the output embeddings"),
    (ctc, lambda data: drop(data, "logits"), "the task transcribe needs the output logits"),
    (classifier, lambda data: drop(data, "logits"), "the task classify needs the output logits"),
    (ctc, lambda data: data.update(ctc=None), "the task transcribe needs either ctc or generation"),
    (writer, lambda data: data.update(ctc=ctc()["ctc"]), "the task transcribe needs either ctc or generation"),
    (classifier, lambda data: data.update(classification=None), "the task classify needs classification"),
    # logits
    (ctc, lambda data: data["ctc"].update(blank=3), "ctc: blank or skipped is no id of the 3"),
    (ctc, lambda data: data["ctc"].update(skipped=[3]), "ctc: blank or skipped is no id of the 3"),
    (ctc, lambda data: data["ctc"]["vocabulary"].pop(), "must be batch, frames, 2 tokens, not batch, frames, 3"),
    (ctc, lambda data: data["ctc"]["vocabulary"].append("b"), "must be batch, frames, 4 tokens, not batch, frames, 3"),
    (ctc, lambda data: output(data, "logits").update(shape=["batch", "frames"]), "3 tokens, not batch, frames"),
    (classifier, lambda data: data["classification"]["labels"].pop(), "must be batch, 1 labels, not batch, 2"),
    (classifier, lambda data: data["classification"]["labels"].append("x"), "must be batch, 3 labels, not batch, 2"),
    (classifier, lambda data: output(data, "logits").update(frames("logits", 2)), "2 labels, not batch, frames, 2"),
]


@pytest.mark.parametrize("make", [ctc, classifier, writer])
def test_what_is_consistent_is_taken(make: Callable[[], Data]) -> None:
    assert Manifest.model_validate(make()).num_layers == 2


@pytest.mark.parametrize("make", [ctc, classifier])
def test_logits_may_be_left_out_with_their_task(make: Callable[[], Data]) -> None:
    assert Manifest.model_validate(without_logits(make())).tasks == ("encode",)


def test_a_fixed_number_of_frames_needs_no_lengths() -> None:
    data = ctc()
    output(data, "embeddings").update(shape=["batch", 7, 4], lengths=None, samples_per_frame=None)
    assert Manifest.model_validate(data).output("embeddings").lengths is None


def test_every_precision_may_have_its_own_graphs() -> None:
    data = writer()
    data["graphs"] += [one | {"name": f"int8.{one['name']}", "precision": "int8"} for one in data["graphs"]]
    assert len(Manifest.model_validate(data).graphs) == 8


@pytest.mark.parametrize(("make", "change", "message"), REFUSALS, ids=[message for _, _, message in REFUSALS])
def test_what_contradicts_itself_is_said(make: Callable[[], Data], change: Change, message: str) -> None:
    data = make()
    change(data)
    with pytest.raises(ValidationError) as refused:
        Manifest.model_validate(data)
    assert message in str(refused.value)
