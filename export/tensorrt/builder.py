"""An ONNX graph -> a plan, through TensorRT's builder: the same calls for TensorRT 10.16 and 11.

The types of the plan are those written into the graph (strong typing): TensorRT 11 knows nothing else, and flags that
let the builder choose would undo the fp32 islands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorrt as trt

from engines.errors import EngineError, OutOfMemoryError
from engines.manifest import Profile
from engines.runtimes.tensorrt.log import Log
from export.errors import BuildError
from export.tensorrt.progress import Display, Monitor, interruptible

ERRORS = 5  # of the parser that are shown: the others mostly follow from them


@dataclass(frozen=True)
class Settings:
    """How to build."""

    profiles: tuple[Profile, ...]
    outputs: tuple[str, ...]  # to keep, lengths included
    level: int  # 0 (quick to build) to 5 (fast to run)
    workspace: int  # bytes that one layer may take beside its tensors; 0: all that there are
    timing_cache: Path | None  # measured times of kernels, read and written: the next build takes less


def build(source: Path, settings: Settings, display: Display) -> bytes:
    """Return the plan of the graph in the file `source`, for the GPU in use.

    Raises BuildError, OutOfMemoryError, and KeyboardInterrupt where the user stops it.
    """
    log = Log()
    builder = trt.Builder(log)
    # TensorRT 11 has no other networks, and ignores the flag.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(source, network, log)
    _keep(network, settings.outputs, source)
    config = builder.create_builder_config()
    config.builder_optimization_level = settings.level
    config.clear_flag(trt.BuilderFlag.TF32)  # on from the start: it would cost the fp32 islands three digits
    config.set_flag(trt.BuilderFlag.DISTRIBUTIVE_INDEPENDENCE)  # the same operations for every row of a batch
    if settings.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
    for profile in settings.profiles:
        _add(builder, config, profile)
    cache = _timing_cache(config, settings.timing_cache)
    with interruptible() as stop:
        monitor = Monitor(display, stop)  # must live as long as the build
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(log, f"TensorRT cannot build {source}")
    if settings.timing_cache is not None:
        _write(settings.timing_cache, _bytes(cache.serialize()))
    return _bytes(plan)


def _parse(source: Path, network: trt.INetworkDefinition, log: Log) -> None:
    """Read the graph from its file, beside which the parser finds the weights."""
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(source)):
        return
    errors = [parser.get_error(index) for index in range(min(parser.num_errors, ERRORS))]
    said = "; ".join(f"{each.node_name()} ({each.node_operator()}): {each.desc()}" for each in errors)
    raise BuildError(f"TensorRT's parser does not take {source}: {said or 'it gives no reason'}")


def _keep(network: trt.INetworkDefinition, outputs: Sequence[str], source: Path) -> None:
    """Leave `outputs` only: a plan computes all that it has."""
    for tensor in [network.get_input(index) for index in range(network.num_inputs)]:
        if tensor.is_shape_tensor:
            raise BuildError(f"{source}: shapes depend on the values of {tensor.name}; export the engine again")
    there = [network.get_output(index) for index in range(network.num_outputs)]
    for tensor in there:
        if tensor.name not in outputs:
            network.unmark_output(tensor)
    missing = sorted(set(outputs) - {tensor.name for tensor in there})
    if missing:
        raise BuildError(f"{source} does not compute {', '.join(missing)}; export the engine again")


def _add(builder: trt.Builder, config: trt.IBuilderConfig, profile: Profile) -> None:
    smallest, usual, largest = profile.shapes
    shapes = builder.create_optimization_profile()
    shapes.set_shape("waveform", trt.Dims(smallest), trt.Dims(usual), trt.Dims(largest))
    shapes.set_shape("lengths", trt.Dims(smallest[:1]), trt.Dims(usual[:1]), trt.Dims(largest[:1]))
    if config.add_optimization_profile(shapes) < 0:
        raise BuildError(f"TensorRT does not take the profile {profile}")


def _timing_cache(config: trt.IBuilderConfig, path: Path | None) -> trt.ITimingCache:
    """Give the builder the times in `path`, if there are any, and they were measured by this version on such a GPU."""
    kept = path.read_bytes() if path is not None and path.is_file() else b""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _bytes(memory: Any) -> bytes:
    """Return what an IHostMemory holds: it is a buffer, which its signature does not say."""
    return bytes(memory)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    partial.write_bytes(data)
    partial.replace(path)


def _failed(log: Log, what: str) -> EngineError | BuildError:
    error = log.error(what, "see the log with --verbose")
    return error if isinstance(error, OutOfMemoryError) else BuildError(str(error))
