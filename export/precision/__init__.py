"""The forms of an engine: its graphs in each precision, for each runtime.

A form is made by a writer, `(Source) -> Form` of `export.precision.form`, with one entry in `WRITERS`. It writes its
files into `Source.folder` and describes each graph: one per role (`encode`, and `start` and `step` where
`Source.exportable` has a decoder), and one per entry of `Source.layers`, named as in `fp16`, `fp16.layers4`,
`fp16.start`, `fp16.step`. It may read the graphs of ONNX Runtime in fp32, which are always written first.

Errors and cosines are measured for it: `export.graphs.measure` runs what `Form.loads` return on the golden clips, alone
and in a padded batch, and refuses what is beyond the bounds of its precision (`export.parity.LIMITS`).
"""

from __future__ import annotations

from collections.abc import Sequence

from engines.manifest import Precision, RuntimeName
from engines.runtimes import find
from export.errors import UnsupportedError
from export.precision import int8, openvino, typed
from export.precision.form import Form, Source, Writer

Key = tuple[RuntimeName, Precision]
# In the order in which they are written, behind ONNX Runtime's fp32.
WRITERS: dict[Key, Writer] = {
    ("onnxruntime", "fp16"): typed.write_fp16,
    ("onnxruntime", "bf16"): typed.write_bf16,
    ("onnxruntime", "int8"): int8.write,
    ("openvino", "fp32"): openvino.write_fp32,
    ("openvino", "bf16"): openvino.write_bf16,
    ("openvino", "int8"): openvino.write_int8,
}
ALWAYS: Key = ("onnxruntime", "fp32")


def choose(precisions: Sequence[Precision], runtimes: Sequence[RuntimeName]) -> list[Key]:
    """Return the forms to write behind ONNX Runtime's fp32: what there is of `precisions` for `runtimes`.

    Raises UnsupportedError where one of them comes to nothing, RuntimeUnavailableError where a runtime is missing that
    would verify what was written.
    """
    every = (ALWAYS, *WRITERS)
    there = {key for key in every if key[0] in runtimes and key[1] in precisions}
    for runtime in runtimes:
        if not any(key[0] == runtime for key in every):
            known = ", ".join(dict.fromkeys(key[0] for key in every))
            raise UnsupportedError(f"--runtimes {runtime}: there is no graph for it, but for {known}")
    for precision in precisions:
        if not any(key[1] == precision for key in there):
            known = ", ".join(dict.fromkeys(key[1] for key in every if key[0] in runtimes))
            raise UnsupportedError(f"--precision {precision}: graphs for {' and '.join(runtimes)} can be in {known}")
    for runtime in runtimes:
        if not any(key[0] == runtime for key in there):
            raise UnsupportedError(f"--runtimes {runtime}: there is no graph for it in {' or '.join(precisions)}")
    for runtime in runtimes:
        find(runtime).describe("cpu")
    return [key for key in WRITERS if key in there]


def write(source: Source, keys: Sequence[Key]) -> list[Form]:
    """Write the forms `keys`, behind that of `source.graphs`."""
    return [Form(source.graphs), *(WRITERS[key](source) for key in keys)]
