"""Who is compared: the peers with their setups, and our own forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.records.peers import TRUTH, Precision

OWN = "own"  # the environment of what is measured against the peers
# Our forms for processors.
FORMS = ("onnxruntime/fp32", "onnxruntime/int8", "openvino/fp32", "openvino/bf16", "openvino/int8")
BF16_FLAGS = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Entrant:
    """Someone who is compared: a script, its options, and how it was set up, for readers."""

    name: str
    precision: Precision
    environment: str  # requirements/NAME.txt
    script: str
    setup: str
    packages: tuple[str, ...]  # whose versions count
    options: Mapping[str, object] = field(default_factory=dict)
    padded: bool = False  # several clips at once are tried as one padded batch too
    flags: tuple[str, ...] = ()  # the processor must have one of them

    @property
    def is_ours(self) -> bool:
        """Whether it is one of our own forms."""
        return self.script == OURS

    def lacks(self, flags: Sequence[str]) -> str | None:
        """Return why a processor with these flags cannot run it; None where it can."""
        if not self.flags or set(self.flags) & set(flags):
            return None
        return f"this processor has no {self.precision} ({' or '.join(self.flags)})"


OURS = "sonant_engine"


def _torch(name: str, precision: Precision, *, compiled: bool = False) -> Entrant:
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    return Entrant(
        name,
        precision,
        "transformers",
        "torch_model",
        f"feature extractor and model in {dtype}, {'torch.compile(dynamic=True)' if compiled else 'eager'}",
        ("torch", "transformers"),
        {"dtype": dtype, "compiled": compiled},
        padded=name == TRUTH,
        flags=BF16_FLAGS if precision == "bf16" else (),
    )


def _openvino(
    name: str, precision: Precision, hint: str, setup: str, *, quantise: str = "", flags: tuple[str, ...] = ()
) -> Entrant:
    options = {"precision": hint, "quantise": quantise}
    packages = ("openvino", "nncf", "transformers") if quantise else ("openvino", "transformers")
    return Entrant(name, precision, "openvino", "openvino_ir", setup, packages, options, flags=flags)


PEERS: Mapping[str, Entrant] = {
    one.name: one
    for one in (
        _torch(TRUTH, "fp32"),
        _torch("torch.compile", "fp32", compiled=True),
        Entrant(
            "pipeline",
            "fp32",
            "transformers",
            "pipelines",
            'pipeline("audio-classification"), a clip at a time as its documentation advises on processors',
            ("torch", "transformers"),
            padded=True,
        ),
        Entrant(
            "optimum",
            "fp32",
            "optimum",
            "optimum_onnx",
            "ORTModelForFeatureExtraction, exported by optimum",
            ("optimum-onnx", "onnxruntime", "transformers"),
            {"precision": "fp32"},
        ),
        _openvino("OpenVINO", "fp32", "f32", "openvino.convert_model, hints f32 and latency"),
        _torch("transformers bf16", "bf16"),
        _torch("torch.compile bf16", "bf16", compiled=True),
        _openvino("OpenVINO bf16", "bf16", "bf16", "the same, hint bf16, its default here", flags=BF16_FLAGS),
        Entrant(
            "optimum int8",
            "int8",
            "optimum",
            "optimum_onnx",
            "quantize_dynamic of ONNX Runtime on optimum's graph, products of matrices",
            ("optimum-onnx", "onnxruntime", "transformers"),
            {"precision": "int8"},
        ),
        _openvino("OpenVINO int8 weights", "int8", "", "nncf.compress_weights, no hint", quantise="weights"),
        _openvino("OpenVINO int8", "int8", "", "nncf.quantize after four clips, no hint", quantise="everything"),
    )
}


def ours(form: str, packages: tuple[str, ...] = ("onnxruntime", "openvino")) -> Entrant:
    """Return one of our own forms, RUNTIME/PRECISION."""
    runtime, _, precision = form.partition("/")
    return Entrant(
        f"Sonant {form}",
        {"fp32": "fp32", "bf16": "bf16", "int8": "int8"}[precision],  # type: ignore[arg-type]
        OWN,
        OURS,
        f"the engine, {runtime}, {precision}, a clip at a time",
        tuple(name for name in packages if name == runtime),
        {"form": form},
        padded=form == "onnxruntime/fp32",
    )
