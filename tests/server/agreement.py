"""The answers of a server against what transformers computes for each clip alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from engines.manifest import Manifest, Task
from engines.verify import error
from export import checkpoint as checkpoints
from export import families
from export.exportable import Exportable, Options
from tests.server.process import wav

Clips = Sequence[NDArray[np.float32]]
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "single_label_classification": lambda logits: logits.softmax(-1),
    "multi_label_classification": torch.sigmoid,
    "regression": lambda logits: logits,
}


def errors(
    client: httpx.Client, name: str, manifest: Manifest, checkpoint: Path, options: Options, clips: Clips
) -> dict[Task, float]:
    """Ask for each task of the model `name`, all `clips` in one request; return the largest error by task.

    The error of a text is 0 where all are equal to the letter, else 1.
    """
    resolved = checkpoints.resolve(str(checkpoint))
    exportable = families.build(resolved, options)
    tasks: dict[Task, Callable[[], float]] = {
        "encode": lambda: _encode(client, name, exportable, clips),
        "classify": lambda: _classify(client, name, exportable, clips),
        "transcribe": lambda: _transcribe(client, name, resolved, exportable, clips),
    }
    return {task: tasks[task]() for task in manifest.tasks}


def ask(client: httpx.Client, task: Task, name: str, clips: Clips, **options: Any) -> list[dict[str, Any]]:
    """Post `clips` and return the answer's data, one for each."""
    files = [("file", ("clip.wav", wav(clip), "audio/wav")) for clip in clips]
    answer = client.post(f"/v1/{task}", data={"model": name, **options}, files=files)
    assert answer.status_code == httpx.codes.OK, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    assert len(data) == len(clips)
    return data


def _encode(client: httpx.Client, name: str, exportable: Exportable, clips: Clips) -> float:
    data = ask(client, "encode", name, clips)
    return max(
        error(np.array(one["embedding"], np.float32), exportable.reference(clip)["embeddings"])
        for one, clip in zip(data, clips, strict=True)
    )


def _classify(client: httpx.Client, name: str, exportable: Exportable, clips: Clips) -> float:
    classification = exportable.classification
    assert classification is not None
    worst = 0.0
    for one, clip in zip(ask(client, "classify", name, clips, top_k=1000), clips, strict=True):
        logits = torch.from_numpy(exportable.reference(clip)["logits"]).double()
        expected = FUNCTIONS[classification.problem_type](logits).numpy()
        scores = {label["label"]: label["score"] for label in one["labels"]}
        found = np.array([scores[label] for label in classification.labels])
        worst = max(worst, error(found, expected))
    return worst


def _transcribe(
    client: httpx.Client, name: str, checkpoint: checkpoints.Checkpoint, exportable: Exportable, clips: Clips
) -> float:
    expected = _generated(checkpoint, clips) if exportable.ctc is None else _written(checkpoint, exportable, clips)
    found = [one["text"] for one in ask(client, "transcribe", name, clips)]
    return float(found != expected)


def _written(checkpoint: checkpoints.Checkpoint, exportable: Exportable, clips: Clips) -> list[str]:
    """Return the texts of the best paths, special tokens left out, as transformers' tokenizer decodes them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder)
    kept = {tokenizer.pad_token_id, tokenizer.word_delimiter_token_id}
    special = set(tokenizer.all_special_ids) - kept
    paths = (exportable.reference(clip)["logits"].argmax(-1) for clip in clips)
    return [str(tokenizer.decode([index for index in path.tolist() if index not in special])) for path in paths]


def _generated(checkpoint: checkpoints.Checkpoint, clips: Clips) -> list[str]:
    """Return what transformers generates with the settings of the checkpoint."""
    model: Any = checkpoint.model(checkpoint.architecture)
    extractor, tokenizer = checkpoint.feature_extractor(), transformers.AutoTokenizer.from_pretrained(checkpoint.folder)
    texts = []
    for clip in clips:
        features = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the checkpoint leaves the longest text to transformers
            tokens = model.generate(features[extractor.model_input_names[0]])
        texts.append(str(tokenizer.decode(tokens[0], skip_special_tokens=True)))
    return texts
