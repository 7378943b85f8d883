"""The parts of engine.json; `engines.manifest` puts them together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

EMBEDDINGS, LOGITS, TOKENS = "embeddings", "logits", "tokens"
TEXT_LOGITS = "text.logits"  # of a step graph, among the golden clips, where a head on the encoder has `logits` too
HIDDEN_STATES = "hidden_states."  # begins the names of what enters the first layer, 0, and of what leaves the Nth, N
# The form that every engine has: exact, on every host, and complete.
BASE = "onnxruntime/fp32"
DEVICES: tuple[DeviceName, ...] = ("cpu", "cuda")

Task = Literal["encode", "transcribe", "classify"]
Role = Literal["encode", "start", "step"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
RuntimeName = Literal["onnxruntime", "openvino", "tensorrt"]
DeviceName = Literal["cpu", "cuda"]
Measure = Literal["word_error_rate", "character_error_rate", "top_1", "retrieval"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A name inside the engine's folder: no separator, no leading dot, so that no path leaves the folder.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=128)]


class Part(BaseModel):
    """What may hold only the fields that it names, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Checkpoint(Part):
    """Where the weights came from."""

    source: str  # hub id, or the name of the local folder
    revision: str | None  # commit of the hub repository; None for a folder
    sha256: Sha256  # over the names and contents of the configuration and weight files
    architecture: str  # the transformers class
    license: str | None


class Output(Part):
    """One array that a graph computes.

    `shape` names each axis: "batch", the name of a time axis, or a fixed size. An output with a time axis names the
    lengths output that says how many of its frames are valid in each row, and how many samples one frame advances: none
    where several stand for the same time.
    """

    name: str
    shape: tuple[str | PositiveInt, ...]
    lengths: str | None = None
    samples_per_frame: PositiveInt | None = None

    @property
    def has_other_rows(self) -> bool:
        """Whether a clip has rows of it that are not frames."""
        return len(self.shape) > 2 and self.samples_per_frame is None


class Ctc(Part):
    """How per-frame logits become text, as the checkpoint's tokenizer does it."""

    vocabulary: tuple[str, ...]  # by id
    blank: NonNegativeInt
    skipped: tuple[NonNegativeInt, ...]  # special tokens that never reach the text, beside the blank
    word_delimiter: str | None
    replace_word_delimiter: str = " "
    lowercase: bool = False


class Classification(Part):
    """How logits become labels."""

    labels: tuple[str, ...]  # by id
    problem_type: ProblemType


class Search(Part):
    """How tokens are chosen, under the names and with the meanings of transformers' generation_config.json."""

    max_length: PositiveInt  # tokens, the start token included
    min_length: NonNegativeInt = 0
    num_beams: PositiveInt = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    do_sample: bool = False
    temperature: PositiveFloat = 1.0
    top_k: NonNegativeInt = 50  # 0: all
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: PositiveFloat = 1.0
    no_repeat_ngram_size: NonNegativeInt = 0
    suppress_tokens: tuple[NonNegativeInt, ...] = ()
    begin_suppress_tokens: tuple[NonNegativeInt, ...] = ()
    forced_bos_token_id: NonNegativeInt | None = None
    forced_eos_token_id: NonNegativeInt | None = None


class Generation(Part):
    """How a decoder writes text, one token at a time.

    Its graphs: the one of role `start` computes what the decoder's cross attention reads of each clip, once; the one of
    role `step` advances every row by a token. `engines.generation` says what goes in and comes out.
    """

    tokenizer: FileName  # of the `tokenizers` library
    tokenizer_sha256: Sha256
    layers: PositiveInt  # of the decoder
    heads: PositiveInt
    head_size: PositiveInt
    vocabulary_size: PositiveInt
    max_positions: PositiveInt | None = None  # tokens that the decoder can take; None where nothing bounds them
    start_token: NonNegativeInt
    eos_tokens: tuple[NonNegativeInt, ...]
    pad_token: NonNegativeInt
    skipped: tuple[NonNegativeInt, ...]  # special tokens, which never reach the text
    clean_up_spaces: bool  # " ." -> "." and such, as the checkpoint's tokenizer does
    languages: dict[str, NonNegativeInt] = {}  # the token that is forced to be the first of each language
    search: Search  # what the checkpoint asks for where a request says nothing

    @property
    def ids(self) -> tuple[int, ...]:
        """Every id that is named here, in no order."""
        forced = (self.search.forced_bos_token_id, self.search.forced_eos_token_id)
        suppressed = (*self.search.suppress_tokens, *self.search.begin_suppress_tokens)
        chosen = (self.start_token, self.pad_token, *self.eos_tokens, *self.languages.values())
        return (*chosen, *suppressed, *(token for token in forced if token is not None))

    @property
    def cross(self) -> tuple[str, ...]:
        """The keys and values that the decoder's cross attention reads, by the names that they have in the graphs."""
        return self._names("cross")

    @property
    def past(self) -> tuple[str, ...]:
        """The keys and values of earlier tokens that a step reads."""
        return self._names("past")

    @property
    def present(self) -> tuple[str, ...]:
        """The keys and values that a step leaves for the next, in the order of `past`."""
        return self._names("present")

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(f"{kind}.{layer}.{part}" for layer in range(self.layers) for part in ("key", "value"))


class Profile(Part):
    """The batches that a plan takes in one of its profiles, and the one that it is fastest with."""

    min_samples: PositiveInt
    opt_samples: PositiveInt
    max_samples: PositiveInt
    min_rows: PositiveInt
    opt_rows: PositiveInt
    max_rows: PositiveInt

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """The shapes [rows, samples] of the smallest, the usual and the largest batch."""
        return (
            (self.min_rows, self.min_samples),
            (self.opt_rows, self.opt_samples),
            (self.max_rows, self.max_samples),
        )


class Plan(Part):
    """What a TensorRT plan was built with, and for: it runs on nothing else."""

    tensorrt: str  # the version
    compute_capability: str  # of the device, such as 9.0
    device: str  # its name
    profiles: tuple[Profile, ...]  # by length
    source: FileName  # the graph that it was built from
    source_sha256: Sha256  # over its file and the weights that it reads
    builder_level: NonNegativeInt
    built: str  # when, UTC, ISO 8601


class Quality(Part):
    """What a graph's errors come to in what users see, on clips with known answers."""

    measure: Measure
    value: float = Field(allow_inf_nan=False)
    fp32: float = Field(allow_inf_nan=False)  # the same, of the fp32 graph on the same clips
    agreement: float = Field(ge=0, le=1)  # share of clips of which both graphs say the same
    clips: PositiveInt
    data: str  # what the clips are


class Graph(Part):
    """One executable of the engine; all of one runtime and precision are a form of it.

    `errors` is the error of each output as measured at export against transformers in fp32 on the golden clips: max
    abs difference over valid frames / max abs of the reference, absolute where that is below 1e-3; `cosines` is the
    least cosine between them.
    """

    name: FileName  # the form, and `.layersN` for a truncated graph, `.start` and `.step` for a decoder's
    role: Role = "encode"
    precision: Precision
    runtime: RuntimeName
    devices: tuple[DeviceName, ...] = DEVICES  # on which it is of use
    file: FileName
    sha256: dict[FileName, Sha256]  # of every file that the graph reads
    outputs: tuple[str, ...]  # of a start graph the keys and values for the cross attention, of a step graph logits
    layers: NonNegativeInt  # encoder layers that it runs: the cheapest graph that has the outputs asked for is used
    max_rows: PositiveInt | None = None  # 1 where the rows of a batch are not independent
    opset: PositiveInt | None = None  # of ONNX; None for a file of another kind
    errors: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    cosines: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    # False where no runtime of the host that exported could run it: its errors are those of the module that it was
    # traced from, and a host that loads it is the first to compare it with the golden clips.
    verified: bool = True
    quality: tuple[Quality, ...] = ()
    plan: Plan | None = None  # of TensorRT

    @property
    def form(self) -> str:
        """The form that it belongs to, by its name."""
        return f"{self.runtime}/{self.precision}"

    def rows(self, samples: int) -> int | None:
        """Return how many clips of so many samples one batch may have; None where the graph sets no limit."""
        if self.plan is None:
            return self.max_rows
        fit = [each.max_rows for each in self.plan.profiles if each.min_samples <= samples <= each.max_samples]
        return max(fit, default=None)


class Golden(Part):
    """Reference clips and what transformers computes for each, alone and unpadded, in fp32."""

    file: FileName = "golden.safetensors"
    sha256: Sha256
    clips: PositiveInt
    outputs: tuple[str, ...]
    cross: tuple[str, ...] = ()  # of what the start graph computes, as `Generation.cross` names it
    tokens: NonNegativeInt = 0  # of a text that each clip is given, with the logits of the token after each
    stride: PositiveInt = 1  # of these logits, one in so many is kept
    # Of outputs whose rows are not frames, and of the keys and values of such rows, so many are kept; None: all.
    rows: PositiveInt | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """What the file holds of each clip beside its waveform."""
        return (*self.outputs, *self.cross, *((TOKENS, TEXT_LOGITS) if self.tokens else ()))

    def cut(self, output: Output) -> slice:
        """Return which rows of `output` are kept of each clip."""
        return slice(self.rows if output.has_other_rows else None)
