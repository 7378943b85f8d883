"""OpenVINO by itself: its converter, its runtime, and its own compression of weights and quantisation.

The features are extracted by transformers, outside of the model. `precision` is what the runtime is told to compute in;
with `weights`, these are compressed to int8 as NNCF does it by default; with `calibration`, everything is quantised.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModel

from benchmarks.peers.scripts.protocol import Clip, Rows, serve

EXAMPLE_SECONDS = 2.0  # of the audio that the converter traces the model with


class OpenVinoModel:
    """A converted model."""

    def __init__(self, extractor: Any, model: openvino.Model, settings: dict[str, object]) -> None:
        """Compile `model` for the processor."""
        self._extractor = extractor
        self._model = openvino.Core().compile_model(model, "CPU", settings)

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        """Return the embeddings of a clip."""
        return self._run([clip])[0]

    def padded(self, clips: Sequence[Clip]) -> Rows:
        """Return the embeddings of a batch, which the feature extractor pads."""
        return self._run(list(clips), padding=True)

    def _run(self, clips: list[Clip], **options: bool) -> Rows:
        return list(self._model(features(self._extractor, clips, "np", **options))[0])


def features(extractor: Any, clips: list[Clip], kind: str, **options: bool) -> dict[str, Any]:
    """Return the inputs of the model for `clips`, as arrays of numpy (`np`) or torch (`pt`)."""
    return dict(extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors=kind, **options))


def load(options: dict[str, Any]) -> OpenVinoModel:
    """Convert the checkpoint of `options`, unless its `work` folder has that already, and compile it."""
    extractor: Any = AutoFeatureExtractor.from_pretrained(options["checkpoint"])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": options["threads"],
        **({"INFERENCE_PRECISION_HINT": options["precision"]} if options["precision"] else {}),
    }
    model = converted(options["checkpoint"], extractor, Path(options["work"], "model.xml"))
    if options["quantise"]:
        model = quantised(model, extractor, options)
    return OpenVinoModel(extractor, model, settings)


def converted(checkpoint: str, extractor: Any, path: Path) -> openvino.Model:
    """Return the checkpoint as OpenVINO converts it; its weights stay in fp32."""
    if not path.is_file():
        clip = np.random.default_rng(0).standard_normal(round(EXAMPLE_SECONDS * extractor.sampling_rate))
        example = features(extractor, [clip.astype(np.float32)], "pt")
        network: Any = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
        with torch.no_grad():
            model = openvino.convert_model(network, example_input=example)
        save(model, path)
    return openvino.Core().read_model(path)


def quantised(model: openvino.Model, extractor: Any, options: dict[str, Any]) -> openvino.Model:
    """Return `model` with int8 weights, or with everything in int8 after a look at the clips of `calibration`."""
    import nncf  # it takes seconds

    path = Path(options["work"], f"model-{options['quantise']}.xml")
    if not path.is_file():
        if options["quantise"] == "weights":
            smaller = nncf.compress_weights(model)
        else:
            with np.load(options["calibration"]) as file:
                clips = [features(extractor, [file[name]], "np") for name in file.files]
            smaller = nncf.quantize(
                model, nncf.Dataset(clips), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(clips)
            )
        save(smaller, path)
    return openvino.Core().read_model(path)


def save(model: openvino.Model, path: Path) -> None:
    """Write a model: as a whole, or not at all; its .xml is what it is found by, and comes last."""
    partial = path.with_name(f"partial-{path.name}")
    openvino.save_model(model, partial, compress_to_fp16=False)
    partial.with_suffix(".bin").rename(path.with_suffix(".bin"))
    partial.rename(path)


if __name__ == "__main__":
    serve(load)
