"""A speech encoder with its head, from the waveform to every output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from engines.generation import FRAMES
from engines.manifest import Classification, Ctc, Output, Task
from export.checkpoint import Checkpoint
from export.errors import CheckpointError, UnsupportedError
from export.exportable import ENCODER_FRAMES, Exportable, Options
from export.frontends import Waveform
from export.labels import classification_of
from export.masking import masked_mean
from export.speech.config import SpeechEncoderConfig, check_shape
from export.speech.convolutions import NormalizedConv
from export.speech.encoder import SpeechEncoder
from export.speech.heads import ClassificationHead, CtcHead
from export.speech.reference import SpeechReference
from export.speech.state import adapt_state


class SpeechModel(nn.Module):
    """Waveform and lengths -> the arrays of `outputs`, then the valid frames of `lengths`."""

    def __init__(
        self, normalize: bool, config: SpeechEncoderConfig, head: nn.Module | None = None, logits: Sequence[Output] = ()
    ) -> None:
        super().__init__()
        self.waveform = Waveform(normalize)
        self.encoder = SpeechEncoder(config)
        self.head = head
        states = [_hidden_state(index, config) for index in range(config.num_layers + 1)]
        attentions = [_attention(index, config) for index in range(config.num_layers if config.attentions else 0)]
        complete = (
            _frames("embeddings", config.embedding_size, config),
            Output(name="pooled", shape=("batch", config.embedding_size)),
            *logits,
        )
        self.outputs = (*complete, *states, *attentions)
        self.lengths = (FRAMES, ENCODER_FRAMES) if config.resamples else (FRAMES,)
        # How many layers of the transformer each output needs.
        self.layers = dict.fromkeys((output.name for output in complete), config.num_layers)
        self.layers |= {output.name: index for index, output in enumerate(states)}
        self.layers |= {output.name: index + 1 for index, output in enumerate(attentions)}

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to arrays."""
        encoded = self.encoder(self.waveform(waveform, lengths), lengths)
        pooled = masked_mean(encoded.embeddings, encoded.frames)
        logits = () if self.head is None else (self.head(encoded),)
        frames = (encoded.frames, encoded.encoder_frames)[: len(self.lengths)]
        return (encoded.embeddings, pooled, *logits, *encoded.states, *encoded.attentions, *frames)


def export_speech_model(
    checkpoint: Checkpoint, options: Options, tasks: Mapping[str, tuple[Task, ...]], config: SpeechEncoderConfig
) -> Exportable:
    """Make the exportable of a checkpoint whose class is one of `tasks`."""
    architecture = checkpoint.architecture
    if architecture not in tasks:
        raise UnsupportedError(f"{checkpoint.source} is a {architecture}; Sonant exports {', '.join(tasks)}")
    config = replace(config, attentions=options.attentions)
    check_shape(config)
    extractor = checkpoint.feature_extractor()
    check_extractor(extractor)
    # What only pre-training needs, such as the quantizer, is no part of the model that came out of it.
    original: Any = checkpoint.model(architecture.replace("ForPreTraining", "Model"))
    head: nn.Module | None = None
    ctc: Ctc | None = None
    classification: Classification | None = None
    logits: tuple[Output, ...] = ()
    if "transcribe" in tasks[architecture]:
        size = original.config.vocab_size
        ctc = checkpoint.ctc(size)
        head = CtcHead(config.embedding_size, size)
        logits = (_frames("logits", size, config),)
    elif "classify" in tasks[architecture]:
        classification = classification_of(original.config)
        head = ClassificationHead(original.config)
        logits = (Output(name="logits", shape=("batch", len(classification.labels))),)
    exportable = build_encoder(original, extractor, config, head, logits)
    return replace(exportable, tasks=tasks[architecture], ctc=ctc, classification=classification)


def build_encoder(
    original: Any,
    extractor: Any,
    config: SpeechEncoderConfig,
    head: nn.Module | None = None,
    logits: Sequence[Output] = (),
) -> Exportable:
    """Make the exportable of a transformers encoder in memory, with its weights, for the task `encode`.

    `config` is what the `encoder_config` of the encoder's family makes of `original.config`; `extractor` is the
    checkpoint's feature extractor. Embeddings are the first output; a `head` adds its `logits`. Raises CheckpointError
    or UnsupportedError.
    """
    check_shape(config)
    check_extractor(extractor)
    # In fp32 before the weights come: one activation of transformers is made in bf16, which would round them.
    module = SpeechModel(extractor.do_normalize, config, head, logits).float()
    load_state(module, original)
    return Exportable(
        module=module.eval(),
        outputs=module.outputs,
        lengths=module.lengths,
        layers=module.layers,
        tasks=("encode",),
        sample_rate=extractor.sampling_rate,
        min_samples=config.min_samples,
        max_samples=None,
        preprocessor={"do_normalize": extractor.do_normalize, "sampling_rate": extractor.sampling_rate},
        hidden_size=config.embedding_size,
        num_layers=config.num_layers,
        reference=SpeechReference(original, extractor, config.attentions),
    )


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
    """Copy the parameters of a transformers model into `module`; UnsupportedError unless each has its place there."""
    prefix = "" if original.base_model is original else f"{original.base_model_prefix}."
    state = original.state_dict()
    encoder = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    encoder.pop("masked_spec_embed", None)  # what training puts in place of masked frames
    head = {f"head.{key}": tensor for key, tensor in state.items() if not key.startswith(prefix)}
    first = module.encoder.feature_extractor.conv_layers[0]
    encoder = adapt_state(encoder, is_normalized=isinstance(first.conv, NormalizedConv))
    adapted = {f"encoder.{key}": tensor for key, tensor in encoder.items()}
    try:
        module.load_state_dict(adapted | head, strict=True)
    except RuntimeError as error:
        name, detail = type(original).__name__, " ".join(str(error).split())[:300]
        raise UnsupportedError(f"a {name} of this shape is not supported: {detail}") from None


def _frames(name: str, size: int, config: SpeechEncoderConfig) -> Output:
    """Describe an output at the frames of the embeddings."""
    shape = ("batch", FRAMES, size)
    return Output(name=name, shape=shape, lengths=FRAMES, samples_per_frame=config.samples_per_frame)


def _hidden_state(index: int, config: SpeechEncoderConfig) -> Output:
    frames, samples = _encoder_frames(config), config.samples_per_encoder_frame
    shape = ("batch", frames, config.hidden_size)
    return Output(name=f"hidden_states.{index}", shape=shape, lengths=frames, samples_per_frame=samples)


def _attention(index: int, config: SpeechEncoderConfig) -> Output:
    frames, samples = _encoder_frames(config), config.samples_per_encoder_frame
    shape = ("batch", config.num_heads, frames, frames)
    return Output(name=f"attentions.{index}", shape=shape, lengths=frames, samples_per_frame=samples)


def _encoder_frames(config: SpeechEncoderConfig) -> str:
    return ENCODER_FRAMES if config.resamples else FRAMES
