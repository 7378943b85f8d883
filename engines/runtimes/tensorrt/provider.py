"""TensorRT as a provider of ONNX Runtime, for hosts that have it and not TensorRT's own Python package.

Left to itself that provider builds a plan for the first shape that it meets and another for every shape outside of it,
inside of a request, which takes a minute or two. With explicit profiles it builds when the session is made, and never
again: what no profile takes is refused here, before it sees it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.errors import RuntimeUnavailableError
from engines.manifest import Graph, Profile
from engines.runtimes import Session, TensorRtProvider

NAME = "TensorrtExecutionProvider"
PRECISIONS = ("fp16", "bf16")


def applies(graph: Graph) -> bool:
    """Whether the provider is of use for `graph`: an encoder in half precision."""
    return graph.role == "encode" and graph.precision in PRECISIONS


def options(graph: Graph, chosen: TensorRtProvider, device_id: int) -> dict[str, str]:
    """Return the options of the provider, by the names of ONNX Runtime's documentation of it.

    It lets the builder choose types where the native plan has those of the graph: whether the result holds is seen when
    the golden clips are replayed.
    """
    first = f"{graph.name}-{graph.sha256[graph.file][:12]}"  # another graph must not find this one's plan
    return {
        "device_id": str(device_id),
        "trt_fp16_enable": "1" if graph.precision == "fp16" else "0",
        "trt_bf16_enable": "1" if graph.precision == "bf16" else "0",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_profile_min_shapes": _shapes(chosen.profiles, 0),
        "trt_profile_opt_shapes": _shapes(chosen.profiles, 1),
        "trt_profile_max_shapes": _shapes(chosen.profiles, 2),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(chosen.cache),
        "trt_engine_cache_prefix": first,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(chosen.cache),
    }


def _shapes(profiles: Sequence[Profile], which: int) -> str:
    """Return NAME:SIZExSIZE of every input, once for each profile: the smallest, usual or largest batch."""
    found = [profile.shapes[which] for profile in profiles]
    return ",".join(f"waveform:{rows}x{samples},lengths:{rows}" for rows, samples in found)


class BoundedSession:
    """A session that is asked only for batches that one of its profiles takes."""

    def __init__(self, session: Session, profiles: tuple[Profile, ...]) -> None:
        self.profiles = profiles
        self.device, self.inputs, self.outputs = session.device, session.inputs, session.outputs
        self._session = session

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run as `Session.run` does, more rows than a profile takes in parts.

        Raises RuntimeUnavailableError where no profile takes clips of that length.
        """
        most = self.profiles[profile_for(self.profiles, waveform.shape[1])].max_rows
        starts = range(0, len(waveform), most)
        parts = [self._session.run(waveform[at : at + most], lengths[at : at + most], outputs) for at in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}


def profile_for(profiles: Sequence[Profile], samples: int) -> int:
    """Return the place of the profile that takes clips of so many samples; RuntimeUnavailableError where none does."""
    for index, profile in enumerate(profiles):
        if profile.min_samples <= samples <= profile.max_samples:
            return index
    raise RuntimeUnavailableError(
        f"no profile of the plan takes {samples} samples; `sonant build --buckets` says which there are"
    )
