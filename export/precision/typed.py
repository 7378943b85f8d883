"""The forms fp16 and bf16 of ONNX Runtime, which TensorRT plans are built from: precision written into the graph."""

from __future__ import annotations

from export import graphs
from export.graphs import load as load_to_serve
from export.precision import survey
from export.precision.form import Form, Source
from export.precision.half import HALVES, in_half
from export.precision.session import load_modules


def write_fp16(source: Source) -> Form:
    """Write the graphs in fp16, with those layers in fp32 whose values do not fit.

    Errors are those of the modules in real half precision: ONNX Runtime computes such a graph in fp32 on a CPU, where
    neither its rounding nor its overflow would show. That it loads and agrees shows that the graph is what was meant.
    """
    source.progress("Looking for values that fp16 cannot hold")
    clips = (*source.clips, *source.audio)
    kept = survey.overflowing(source.exportable, clips)
    if kept:
        source.progress(f"Keeping in fp32 what reaches {max(kept.values()):.0f}: {', '.join(kept)}")
    typed = in_half(source.exportable, HALVES["fp16"], kept)
    survey.check(typed, clips, "fp16")
    written = graphs.write(source.folder, typed, source.layers, source.progress, "fp16")
    on_gpu = tuple(graph.model_copy(update={"devices": ("cuda",)}) for graph in written)
    return Form(on_gpu, (load_modules(typed), load_to_serve))


def write_bf16(source: Source) -> Form:
    """Write the graphs in bf16, which no runtime of a host without a GPU runs: they are not verified."""
    typed = in_half(source.exportable, HALVES["bf16"])
    written = graphs.write(source.folder, typed, source.layers, source.progress, "bf16")
    update = {"devices": ("cuda",), "verified": False}
    return Form(tuple(graph.model_copy(update=update) for graph in written), (load_modules(typed),))
