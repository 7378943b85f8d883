"""What is measured: engines in every precision, on the device, and transformers beside them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine, models, recipes
from benchmarks.engines.eager import MEL_MASK
from benchmarks.records.gpu import Device
from engines import host
from engines.batch import Clip
from engines.engine import Engine
from engines.manifest import Manifest, Precision
from engines.runtimes import RuntimeOptions
from export import checkpoint as checkpoints
from export.checkpoint import Checkpoint
from export.exporter import export

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Of a product whose rate is measured, and how often: 0.1 s at 800 TFLOP/s.
MATRIX, REPEATS = 8192, 80
LARGEST_ERROR = 1.0  # forms are measured whatever their error, which is told


def place(arguments: argparse.Namespace) -> str:
    """Return where things run, "cuda" or in a dry run "cpu", with TF32 off; ValueError where there is no GPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if arguments.dry_run:
        return "cpu"
    if not torch.cuda.is_available() or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ValueError("it needs a GPU, torch with CUDA and onnxruntime-gpu; --dry-run shows that it runs")
    return "cuda"


def describe(place: str) -> Device:
    """Describe the device."""
    providers = tuple(onnxruntime.get_available_providers())
    if place == "cpu":
        return Device(name=host.processor(), memory_gib=(host.memory() or 0) / 2**30, cuda=None, providers=providers)
    found = torch.cuda.get_device_properties(0)
    return Device(name=found.name, memory_gib=found.total_memory / 2**30, cuda=torch.version.cuda, providers=providers)


def prepare(model: str, precisions: Sequence[Precision], cache: Path, progress: Callable[[str], None]) -> Path:
    """Return the engine of a recipe in these precisions; made unless it is there. Raises ExportError."""
    if tuple(precisions) == ("fp32",):
        return models.prepare(model, None, (), cache, progress).folder
    checkpoint = recipes.make(model, cache / "checkpoints", progress)
    folder = cache / "gpu" / f"{model}-{'-'.join(precisions)}"
    made_of = json.dumps([models.sources(), machine.versions(), str(checkpoint)])
    key = folder.with_name(f"{folder.name}.key")
    if not (key.is_file() and key.read_text(encoding="utf-8") == made_of):
        variant = recipes.RECIPES[model].variant
        export(str(checkpoint), folder, variant=variant, precisions=precisions, force=True, progress=progress)
        key.write_text(made_of, encoding="utf-8")
    return folder


def checkpoint_of(model: str, cache: Path) -> Checkpoint:
    """Return the checkpoint of a recipe."""
    return checkpoints.resolve(str(recipes.make(model, cache / "checkpoints", lambda step: None)))


def open_form(folder: Path, place: str, precision: Precision, **options: Any) -> Engine:
    """Open an engine in one precision. Raises EngineError where it cannot run here."""
    chosen = RuntimeOptions(
        "cuda" if place == "cuda" else "cpu",
        runtime="onnxruntime",
        precision=precision,
        max_error=LARGEST_ERROR,
        **options,
    )
    return Engine(folder, options=chosen)


def fitting(manifest: Manifest, seconds: float) -> float:
    """Return the nearest length that the engine takes, in seconds."""
    shortest, longest = manifest.seconds
    return min(max(seconds, shortest), longest)


class TorchEncoder:
    """The encoder of a checkpoint in transformers, with its default attention, on a device."""

    def __init__(self, checkpoint: Checkpoint, place: str, precision: Precision, *, compiled: bool = False) -> None:
        self._extractor = checkpoint.feature_extractor()
        self._place, self._dtype = place, DTYPES[precision]
        model: Any = checkpoint.model(checkpoint.architecture)
        encoder = model.encoder if checkpoint.config.is_encoder_decoder else model.base_model
        encoder = encoder.to(place, self._dtype)
        self._encoder: Any = torch.compile(encoder) if compiled else encoder

    def features(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Return what the model reads of clips of one length, on the device."""
        found = self._extractor(list(clips), sampling_rate=self._extractor.sampling_rate, return_tensors="pt")
        return {
            name: value.to(self._place, self._dtype if value.is_floating_point() else None)
            for name, value in found.items()
        }

    def __call__(self, features: dict[str, torch.Tensor]) -> list[NDArray[np.float32]]:
        """Return the embeddings [frames, hidden] of each clip, on the host."""
        with torch.inference_mode():
            result = self._compute(features)
            if MEL_MASK not in features:
                return list(result.last_hidden_state.float().cpu().numpy())
            rows = zip(result.last_hidden_state.float().cpu(), result.audio_mel_mask.cpu(), strict=True)
            return [embeddings[~padding].numpy() for embeddings, padding in rows]

    def operations(self, features: dict[str, torch.Tensor]) -> int:
        """Return the floating-point operations of one call: products, convolutions and attention."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():  # it cannot count in inference mode
            self._compute(features)
        return int(counter.get_total_flops())

    def _compute(self, features: dict[str, torch.Tensor]) -> Any:
        if MEL_MASK not in features:
            return self._encoder(**features)
        # This extractor's mask is true where there is a frame, that of its encoder on padding.
        return self._encoder(features["input_features"], ~features[MEL_MASK].bool(), return_dict=True)


def matrix_rate(place: str, precision: Precision, size: int = MATRIX, repeats: int = REPEATS) -> float:
    """Return the floating-point operations a second of a large product."""
    left, right = (torch.randn(size, size, device=place).to(DTYPES[precision]) for _ in range(2))

    def run() -> float:
        begun = time.perf_counter()
        for _ in range(repeats):
            product = left @ right
        float(product[0, 0])  # until all are done
        return time.perf_counter() - begun

    run()
    return 2 * size**3 * repeats / min(run() for _ in range(3))
