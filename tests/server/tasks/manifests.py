"""Manifests for the tasks' tests; no graph is behind them."""

from engines.manifest import Checkpoint, Classification, Ctc, Golden, Graph, Manifest, Output, ProblemType

LABELS = ("cat", "dog", "bird")


def manifest(problem_type: ProblemType | None = None, ctc: Ctc | None = None, *, timed: bool = True) -> Manifest:
    names = ("embeddings", "hidden_states.0", "hidden_states.2", *(("logits",) if ctc else ()))
    lengths = "frames" if timed else None
    return Manifest(
        family="any",
        tasks=("encode",),
        checkpoint=Checkpoint(source="any", revision=None, sha256="0" * 64, architecture="Any", license=None),
        sample_rate=16_000,
        min_samples=400,
        max_samples=480_000,
        preprocessor={},
        hidden_size=4,
        num_layers=2,
        parameters=1,
        outputs=tuple(
            Output(
                name=name,
                shape=("batch", "frames" if timed else 7, 4),
                lengths=lengths,
                samples_per_frame=320 if timed else None,
            )
            for name in names
        ),
        ctc=ctc,
        classification=Classification(labels=LABELS, problem_type=problem_type) if problem_type else None,
        graphs=(
            Graph(
                name="fp32",
                precision="fp32",
                runtime="onnxruntime",
                file="fp32.onnx",
                sha256={"fp32.onnx": "0" * 64},
                outputs=names,
                layers=2,
                opset=18,
                errors={},
            ),
        ),
        golden=Golden(sha256="0" * 64, clips=1, outputs=names),
        created={},
    )
