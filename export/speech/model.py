"""A speech encoder with its head, from the waveform to every output, and the transformers model it must agree with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.activations import ACT2FN

from engines.manifest import Classification, Ctc, Output, Task
from export.checkpoint import Checkpoint
from export.errors import CheckpointError, UnsupportedError
from export.exportable import Exportable, Options
from export.frontends import Waveform
from export.labels import classification_of
from export.masking import masked_mean
from export.speech.config import SpeechEncoderConfig
from export.speech.encoder import SpeechEncoder
from export.speech.state import adapt_state

FRAMES = "frames"


class CtcHead(nn.Module):
    """Logits of each frame."""

    def __init__(self, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.lm_head = nn.Linear(hidden_size, vocabulary_size)

    def forward(self, embeddings: Tensor, states: list[Tensor], frames: Tensor) -> Tensor:
        """Return [batch, frames, vocabulary]."""
        return self.lm_head(embeddings)  # type: ignore[no-any-return]


class ClassificationHead(nn.Module):
    """Logits of each clip from the mean over its valid frames, of the last layer or of a learned mix of all."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
        self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)
        self.weighted = config.use_weighted_layer_sum
        if self.weighted:
            self.layer_weights = nn.Parameter(torch.ones(config.num_hidden_layers + 1))

    def forward(self, embeddings: Tensor, states: list[Tensor], frames: Tensor) -> Tensor:
        """Return [batch, classes]. The mean comes before the projector, which is affine: less work, the same result."""
        if not self.weighted:
            return self.classifier(self.projector(masked_mean(embeddings, frames)))  # type: ignore[no-any-return]
        means = torch.stack([masked_mean(state, frames) for state in states], 1)
        weights = torch.softmax(self.layer_weights, -1)[:, None]
        return self.classifier(self.projector((means * weights).sum(1)))  # type: ignore[no-any-return]


class SpeechModel(nn.Module):
    """Waveform and lengths -> the arrays that `outputs` describes, then the valid frames."""

    def __init__(self, normalize: bool, config: SpeechEncoderConfig, head: nn.Module | None) -> None:
        super().__init__()
        self.waveform = Waveform(normalize)
        self.encoder = SpeechEncoder(config)
        self.head = head

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to embeddings, pooled, logits if any, and hidden states."""
        embeddings, states, frames = self.encoder(self.waveform(waveform, lengths), lengths)
        logits = () if self.head is None else (self.head(embeddings, states, frames),)
        return (embeddings, masked_mean(embeddings, frames), *logits, *states, frames)


class SpeechReference:
    """transformers on one unpadded clip, its feature extractor included."""

    def __init__(self, model: Any, feature_extractor: Any) -> None:
        self._models = {torch.float32: model}
        self._feature_extractor = feature_extractor

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return each output of `clip` [samples] without a batch axis, computed in fp32 or fp64."""
        if dtype not in self._models:
            self._models[dtype] = copy.deepcopy(self._models[torch.float32]).to(dtype)
        model = self._models[dtype]
        encoded: list[Any] = []
        hook = model.base_model.register_forward_hook(lambda module, inputs, output: encoded.append(output))
        try:
            with torch.inference_mode():
                result = model(self._features(clip, dtype), output_hidden_states=True)
        finally:
            hook.remove()
        embeddings = encoded[0].last_hidden_state
        outputs = {"embeddings": embeddings, "pooled": embeddings.mean(1)}
        if "logits" in result:
            outputs["logits"] = result.logits
        outputs |= {f"hidden_states.{index}": state for index, state in enumerate(encoded[0].hidden_states)}
        return {name: tensor[0].numpy() for name, tensor in outputs.items()}

    def _features(self, clip: NDArray[np.float32], dtype: torch.dtype) -> Tensor:
        extractor = self._feature_extractor
        if dtype == torch.float32:
            features = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")
            return features.input_values  # type: ignore[no-any-return]
        x = clip.astype(np.float64)  # the extractor itself ends in fp32: its formula, in fp64
        if extractor.do_normalize:
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
        return torch.from_numpy(x)[None].to(dtype)


def export_speech_model(
    checkpoint: Checkpoint, options: Options, tasks: Mapping[str, tuple[Task, ...]], config: SpeechEncoderConfig
) -> Exportable:
    """Make the exportable of a checkpoint whose class is one of `tasks`."""
    architecture = checkpoint.architecture
    if architecture not in tasks:
        raise UnsupportedError(f"{checkpoint.source} is a {architecture}; Sonant exports {', '.join(tasks)}")
    check_shape(config)
    extractor = checkpoint.feature_extractor()
    check_extractor(extractor)
    original: Any = checkpoint.model(architecture)
    head: nn.Module | None = None
    ctc: Ctc | None = None
    classification: Classification | None = None
    logits: tuple[Output, ...] = ()
    if "transcribe" in tasks[architecture]:
        size = original.config.vocab_size
        ctc = checkpoint.ctc(size)
        head = CtcHead(config.hidden_size, size)
        logits = (_frames("logits", size, config),)
    elif "classify" in tasks[architecture]:
        classification = classification_of(original.config)
        head = ClassificationHead(original.config)
        logits = (Output(name="logits", shape=("batch", len(classification.labels))),)
    # In fp32 before the weights come: one activation of transformers is made in bf16, which would round them.
    module = SpeechModel(extractor.do_normalize, config, head).float()
    load_state(module, original)
    names = [f"hidden_states.{index}" for index in range(config.num_layers + 1)]
    complete = dict.fromkeys(["embeddings", "pooled", *(output.name for output in logits)], config.num_layers)
    return Exportable(
        module=module.eval(),
        outputs=(
            _frames("embeddings", config.hidden_size, config),
            Output(name="pooled", shape=("batch", config.hidden_size)),
            *logits,
            *(_frames(name, config.hidden_size, config) for name in names),
        ),
        lengths=(FRAMES,),
        layers=complete | {name: index for index, name in enumerate(names)},
        tasks=tasks[architecture],
        sample_rate=extractor.sampling_rate,
        min_samples=config.min_samples,
        max_samples=None,
        preprocessor={"do_normalize": extractor.do_normalize, "sampling_rate": extractor.sampling_rate},
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        reference=SpeechReference(original, extractor),
        ctc=ctc,
        classification=classification,
    )


def check_shape(config: SpeechEncoderConfig) -> None:
    """Raise CheckpointError or UnsupportedError where no encoder of this shape can be made."""
    if config.num_layers < 1:
        raise UnsupportedError(f"config.json: num_hidden_layers is {config.num_layers}; Sonant exports 1 or more")
    for name in ("conv_dim", "conv_kernel", "conv_stride"):
        values = getattr(config, name)
        if not values or min(values) < 1:
            raise CheckpointError(f"config.json: {name} is {list(values)}; it must be 1 or more in each layer")
    for activation in (config.activation, config.conv_activation):
        if activation not in ACT2FN:
            raise UnsupportedError(f"config.json: the activation {activation!r} is none of transformers' own")


def check_extractor(extractor: Any) -> None:
    """Raise UnsupportedError unless the feature extractor takes one waveform as it is, or normalised."""
    name, file = type(extractor).__name__, "preprocessor_config.json"
    if name != "Wav2Vec2FeatureExtractor":
        raise UnsupportedError(f"{file}: {name} is not supported here: only Wav2Vec2FeatureExtractor is")
    if extractor.feature_size != 1:
        raise UnsupportedError(
            f"{file}: feature_size is {extractor.feature_size}; Sonant exports encoders of 1 channel"
        )
    rate = extractor.sampling_rate
    if type(rate) is not int or rate < 1 or type(extractor.do_normalize) is not bool:
        raise CheckpointError(f"{file}: sampling_rate must be a whole number above 0, and do_normalize true or false")


def load_state(module: SpeechModel, original: Any) -> None:
    """Copy the parameters of a transformers model into `module`, each to its place and none left; else RuntimeError."""
    prefix = "" if original.base_model is original else f"{original.base_model_prefix}."
    state = {}
    for key, tensor in adapt_state(original.state_dict()).items():
        if key.startswith(prefix):
            state[f"encoder.{key.removeprefix(prefix)}"] = tensor
        else:
            state[f"head.{key}"] = tensor
    state.pop("encoder.masked_spec_embed", None)  # what training puts in place of masked frames
    module.load_state_dict(state, strict=True)


def _frames(name: str, size: int, config: SpeechEncoderConfig) -> Output:
    shape = ("batch", FRAMES, size)
    return Output(name=name, shape=shape, lengths=FRAMES, samples_per_frame=config.samples_per_frame)
