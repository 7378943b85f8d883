"""How sessions of ONNX Runtime are set up."""

from __future__ import annotations

from typing import Any

from engines.host import engine_threads
from engines.runtimes import RuntimeOptions

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# On a CPU the fused kernel takes longer than the addition and the norm that it stands for: 3 to 5 % of an encoder.
SLOWER_FUSIONS = ["SkipLayerNormFusion"]

Provider = tuple[str, dict[str, str]]


def session_options(ort: Any, options: RuntimeOptions, *, on_gpu: bool) -> Any:
    """Return onnxruntime.SessionOptions."""
    found = ort.SessionOptions()
    found.intra_op_num_threads = options.threads or engine_threads()
    found.log_severity_level = 3
    # Waiting threads would take the cores from decoding and from the other engines.
    found.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps the largest batch ever seen; freed memory goes back to the system instead.
    found.enable_cpu_mem_arena = False
    if on_gpu:
        # Weights lie outside of the arena, whose pieces they would keep from being given back.
        found.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return found


def providers(options: RuntimeOptions, weights: int, *, on_gpu: bool, captures: bool = False) -> list[Provider]:
    """Return the providers of a graph with so many bytes of weights, the first one that can do it first."""
    cpu: Provider = (CPU, {})
    return [(CUDA, cuda_options(options, weights, captures=captures)), cpu] if on_gpu else [cpu]


def cuda_options(options: RuntimeOptions, weights: int, *, captures: bool = False) -> dict[str, str]:
    """Return the options of the CUDA provider, by the names of its documentation."""
    search = "heuristic" if options.conv_search == "auto" else options.conv_search
    found = {
        "device_id": str(options.device_id),
        "cudnn_conv_algo_search": search.upper(),
        "use_tf32": "0",  # it would cost 3 digits
        "arena_extend_strategy": "kSameAsRequested",  # by default it doubles, and the other engines go without
    }
    if options.device_bytes:
        found["gpu_mem_limit"] = str(weights + options.device_bytes)  # it counts what lies outside of the arena too
    if captures:
        found["enable_cuda_graph"] = "1"
    return found
