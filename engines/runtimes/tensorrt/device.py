"""One GPU's memory, copies and streams, through cuda.bindings (CUDA Runtime API)."""

from __future__ import annotations

import ctypes
import math
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda.bindings import runtime as cuda
from numpy.typing import NDArray

from engines.errors import EngineError, OutOfMemoryError, RuntimeUnavailableError


@dataclass(frozen=True)
class Properties:
    """What a GPU is."""

    name: str
    capability: str  # the compute capability, such as 9.0
    memory: int  # bytes


def properties(number: int) -> Properties:
    """Return what GPU `number` of those that the process sees is; RuntimeUnavailableError where there is none."""
    failure, found = cuda.cudaGetDeviceProperties(number)
    if failure != cuda.cudaError_t.cudaSuccess:
        raise RuntimeUnavailableError(f"GPU {number} cannot be used ({_said(failure)}); see `nvidia-smi`")
    name = found.name.decode(errors="replace").rstrip("\0")
    return Properties(name, f"{found.major}.{found.minor}", int(found.totalGlobalMem))


def free_memory(number: int) -> int:
    """Return the bytes that are free on GPU `number`."""
    use(number)
    free, _ = done(cuda.cudaMemGetInfo(), "asking for its free memory")
    return int(free)


def use(number: int) -> None:
    """Make GPU `number` the one that calls of this thread go to."""
    done(cuda.cudaSetDevice(number), f"choosing GPU {number}")


def done(result: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    """Return the values of a call's `result`, which begins with its status.

    Raises OutOfMemoryError where memory was short, another EngineError where the call failed for another reason.
    """
    failure, *values = result
    if failure == cuda.cudaError_t.cudaErrorMemoryAllocation:
        raise OutOfMemoryError(f"not enough memory for {what}: {_said(failure)}")
    if failure != cuda.cudaError_t.cudaSuccess:
        raise EngineError(f"CUDA: {what} failed: {_said(failure)}")
    return tuple(values)


def _said(failure: Any) -> str:
    _, text = cuda.cudaGetErrorString(failure)
    return str(text.decode(errors="replace"))


class Stream:
    """A stream of its own: the default one would wait for, and be waited for by, all others of the process."""

    def __init__(self) -> None:
        (stream,) = done(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking), "making a stream")
        self.handle = int(stream)
        self._destroy = weakref.finalize(self, cuda.cudaStreamDestroy, self.handle)

    def wait(self) -> None:
        """Wait until all that was put into the stream is done; errors of it appear here."""
        done(cuda.cudaStreamSynchronize(self.handle), "a batch")


class Buffer:
    """Memory on the GPU for one tensor, with as much pinned memory of the host, used again for every batch.

    It grows to the largest tensor that it was asked to hold. Verification at load runs the largest batch of every
    profile, so that requests find it grown.
    """

    def __init__(self, dtype: np.dtype[Any], stream: Stream) -> None:
        self.dtype = dtype
        self.address = 0  # on the GPU
        self._stream = stream
        self._bytes = 0
        self._host: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._free: list[weakref.finalize[..., Buffer]] = []

    def reserve(self, shape: tuple[int, ...]) -> None:
        """See that there is room for an array of `shape`; not while something is under way. Raises OutOfMemoryError."""
        # TensorRT wants an address even for an array of no elements.
        needed = max(1, math.prod(shape) * self.dtype.itemsize)
        if needed <= self._bytes:
            return
        self._release()
        (address,) = done(cuda.cudaMalloc(needed), f"an array {list(shape)} on the GPU")
        self._free.append(weakref.finalize(self, cuda.cudaFree, address))
        (pinned,) = done(cuda.cudaMallocHost(needed), f"an array {list(shape)} in pinned memory")
        self._free.append(weakref.finalize(self, cuda.cudaFreeHost, pinned))
        self._host = np.frombuffer(memoryview((ctypes.c_uint8 * needed).from_address(pinned)), np.uint8)
        self.address, self._bytes = int(address), needed

    def upload(self, array: NDArray[np.generic]) -> None:
        """Put a copy of `array`, for which there is room, into the stream's order of things."""
        host = self._view(array.shape)
        np.copyto(host, array, casting="no")
        kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        done(cuda.cudaMemcpyAsync(self.address, host.ctypes.data, host.nbytes, kind, self._stream.handle), "a copy")

    def download(self, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """Put a copy to the host into the stream's order; return where it arrives, to be read before the next batch."""
        host = self._view(shape)
        kind = cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        done(cuda.cudaMemcpyAsync(host.ctypes.data, self.address, host.nbytes, kind, self._stream.handle), "a copy")
        return host

    def _view(self, shape: tuple[int, ...]) -> NDArray[Any]:
        size = math.prod(shape) * self.dtype.itemsize
        return self._host[:size].view(self.dtype).reshape(shape)

    def _release(self) -> None:
        self._host, self.address, self._bytes = np.empty(0, np.uint8), 0, 0
        while self._free:
            self._free.pop()()
