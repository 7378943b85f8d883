"""What engine.json must not say: an engine that contradicts itself would fail at a request that needs what it lacks.

One function a subject. Each yields what is wrong, in words for who has the engine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from engines.parts import BASE, HIDDEN_STATES, LOGITS

if TYPE_CHECKING:
    from engines.manifest import Manifest

NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")  # as it is written in the name of an output; no encoder has a million layers


def problems(manifest: Manifest) -> Iterator[str]:
    """Say what contradicts what."""
    subjects = (_names, _axes, _layers, _plans, _roles, _decoder, _files, _proofs, _clips, _tasks, _logits)
    return chain.from_iterable(subject(manifest) for subject in subjects)


def _names(manifest: Manifest) -> Iterator[str]:
    """Every output and graph has a name of its own, and no other is spoken of."""
    if not manifest.outputs or not manifest.graphs:
        yield "it needs at least one output and one graph"
    for what, each in (("outputs", manifest.outputs), ("graphs", manifest.graphs)):
        if repeated := _repeated(item.name for item in each):
            yield f"two {what} are called {', '.join(repeated)}"
    names = {output.name for output in manifest.outputs}
    encoding = [(f"graph {graph.name}", graph.outputs) for graph in manifest.graphs if graph.role == "encode"]
    for where, outputs in [("golden", manifest.golden.outputs), *encoding]:
        if repeated := _repeated(outputs):
            yield f"{where} names {', '.join(repeated)} twice"
        if unknown := sorted(set(outputs) - names):
            yield f"{where} has outputs that the engine has not: {', '.join(unknown)}"
    for name in sorted(names):
        layer = name.removeprefix(HIDDEN_STATES)
        if layer != name and not (NUMBER.fullmatch(layer) and int(layer) <= manifest.num_layers):
            yield f"output {name}: the hidden states have the numbers 0 to {manifest.num_layers}"


def _axes(manifest: Manifest) -> Iterator[str]:
    """Every array has the rows of a batch first, and with a time axis goes how much of it is valid."""
    names = {output.name for output in manifest.outputs}
    for output in manifest.outputs:
        timed = any(isinstance(axis, str) for axis in output.shape[1:])
        if output.shape[:1] != ("batch",):
            yield f"output {output.name}: its first axis is not batch"
        if timed != (output.lengths is not None):
            yield f"output {output.name}: a time axis goes with lengths"
        if output.lengths in names:
            yield f"output {output.name}: its lengths, {output.lengths}, are an output themselves"
        if output.samples_per_frame is not None and not timed:
            yield f"output {output.name}: samples_per_frame goes with a time axis"


def _layers(manifest: Manifest) -> Iterator[str]:
    """One graph, of the form that every engine has, runs the whole encoder and computes all that the engine has."""
    base = [graph for graph in manifest.graphs if graph.form == BASE and graph.role == "encode"]
    complete = [graph for graph in base if graph.layers == manifest.num_layers]
    for graph in manifest.graphs:
        if graph.layers > manifest.num_layers:
            yield f"graph {graph.name} runs {graph.layers} layers, the encoder has {manifest.num_layers}"
    if not complete:
        yield f"no graph {BASE} of role encode runs all {manifest.num_layers} layers"
    for graph in complete:
        if missing := [output.name for output in manifest.outputs if output.name not in graph.outputs]:
            yield f"graph {graph.name} runs every layer, but lacks outputs of the engine: {', '.join(missing)}"


def _plans(manifest: Manifest) -> Iterator[str]:
    """Every plan says for what it was built, and no other graph does."""
    for graph in manifest.graphs:
        if (graph.plan is None) != (graph.runtime != "tensorrt"):
            yield f"graph {graph.name}: plan goes with the runtime tensorrt"
        if not graph.devices:
            yield f"graph {graph.name}: it is of use on no device"
        for profile in graph.plan.profiles if graph.plan else ():
            samples = (profile.min_samples, profile.opt_samples, profile.max_samples)
            rows = (profile.min_rows, profile.opt_rows, profile.max_rows)
            if sorted(samples) != list(samples) or sorted(rows) != list(rows):
                yield f"graph {graph.name}: a profile must have min <= opt <= max"


def _roles(manifest: Manifest) -> Iterator[str]:
    """With a decoder, a form has at most one graph that starts it and one that steps; the one always there has both."""
    decoding = [graph for graph in manifest.graphs if graph.role != "encode"]
    if manifest.generation is None:
        if decoding or manifest.golden.cross or manifest.golden.tokens:
            yield "it has graphs or golden clips of a decoder, but no generation"
        return
    for form in dict.fromkeys((BASE, *(graph.form for graph in manifest.graphs if graph.plan is None))):
        there = Counter(graph.role for graph in decoding if graph.form == form)
        counts = (there["start"], there["step"])
        if max(counts) > 1 or (form == BASE and counts != (1, 1)):
            said = f"{counts[0]} and {counts[1]}"
            yield f"generation needs a graph of role start and one of role step, {form} has {said}"
    for graph in decoding:
        if graph.max_rows is not None:
            yield f"graph {graph.name}: max_rows is for graphs of role encode, the rows of others are independent"


def _decoder(manifest: Manifest) -> Iterator[str]:
    """Everything that is said of the decoder fits: its graphs, its golden texts, its vocabulary."""
    spec, golden = manifest.generation, manifest.golden
    if spec is None:
        return
    for graph in manifest.graphs:
        expected = {"start": spec.cross, "step": (LOGITS,)}.get(graph.role, graph.outputs)
        if graph.outputs != expected:
            yield f"graph {graph.name}: the outputs of role {graph.role} are {', '.join(expected)}"
    if unknown := sorted(set(golden.cross) - set(spec.cross)):
        yield f"golden has outputs that the start graph has not: {', '.join(unknown)}"
    if golden.tokens > (spec.max_positions or golden.tokens):
        yield f"golden has texts of {golden.tokens} tokens, the decoder takes {spec.max_positions}"
    if max(spec.ids) >= spec.vocabulary_size:
        yield f"generation: {max(spec.ids)} is no id of the {spec.vocabulary_size} of the vocabulary"


def _files(manifest: Manifest) -> Iterator[str]:
    """Every file of a graph has its hash, and is not what another part of the engine reads."""
    for graph in manifest.graphs:
        if graph.file not in graph.sha256:
            yield f"graph {graph.name}: sha256 lacks {graph.file}"
        if manifest.golden.file in graph.sha256:
            yield f"graph {graph.name} reads {manifest.golden.file}, the file of the golden clips"
        if manifest.generation and manifest.generation.tokenizer in graph.sha256:
            yield f"graph {graph.name} reads {manifest.generation.tokenizer}, the file of the tokenizer"


def _proofs(manifest: Manifest) -> Iterator[str]:
    """Every graph can be held against what transformers computes."""
    for graph in manifest.graphs:
        if not manifest.proved(graph):
            yield f"graph {graph.name} has no output that the golden clips could prove"


def _clips(manifest: Manifest) -> Iterator[str]:
    """There are clips that are neither too short nor too long."""
    if manifest.min_samples > manifest.max_samples:
        yield f"min_samples {manifest.min_samples} is above max_samples {manifest.max_samples}"


def _tasks(manifest: Manifest) -> Iterator[str]:
    """Every task has what its results are made of and with. A vocabulary or labels may be there without their task."""
    if "transcribe" in manifest.tasks and (manifest.ctc is None) == (manifest.generation is None):
        yield "the task transcribe needs either ctc or generation"
    if "classify" in manifest.tasks and manifest.classification is None:
        yield "the task classify needs classification"
    names = {output.name for output in manifest.outputs}
    for task, output in manifest.task_outputs.items():
        if output not in names:
            yield f"the task {task} needs the output {output}"


def _logits(manifest: Manifest) -> Iterator[str]:
    """Every logit has its token or label, where there are logits."""
    ctc, classification = manifest.ctc, manifest.classification
    if ctc and max(ctc.blank, *ctc.skipped, 0) >= len(ctc.vocabulary):
        yield f"ctc: blank or skipped is no id of the {len(ctc.vocabulary)} of the vocabulary"
    for shape in (output.shape for output in manifest.outputs if output.name == LOGITS):
        timed = len(shape) == 3 and isinstance(shape[1], str)
        if ctc and not (timed and shape[-1] == len(ctc.vocabulary)):
            yield f"ctc: the shape of logits must be batch, frames, {len(ctc.vocabulary)} tokens, not {_text(shape)}"
        if classification and shape != ("batch", len(classification.labels)):
            labels = len(classification.labels)
            yield f"classification: the shape of logits must be batch, {labels} labels, not {_text(shape)}"


def _text(shape: tuple[str | int, ...]) -> str:
    return ", ".join(map(str, shape))


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
