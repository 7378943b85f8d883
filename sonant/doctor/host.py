"""The processor, its instructions, and the cores and memory that the process may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

from engines import host
from sonant.doctor.finding import Finding, absent, ok, warning
from sonant.doctor.request import Job, Request

# Instructions by what they make fast, as Linux names them: x86-64 and Arm. What is listed first is enough by itself.
VECTORS = ("avx2", "avx512f", "asimd", "sve")
EIGHT_BITS = ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp")
BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
# Below it, a server with a small engine already has the system take memory from its caches.
LITTLE_MEMORY = 2**30


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks."""
    yield Job("processor")


def check() -> Iterator[Finding]:
    """Look at what the system says of processor, cores and memory."""
    yield ok("processor", f"{host.processor()}, {platform.machine()}, {platform.system()} {platform.release()}")
    yield from _instructions(host.processor_flags())
    yield _cores()
    yield _memory()


def _instructions(flags: frozenset[str]) -> Iterator[Finding]:
    if not flags:
        yield absent("instructions", "the system does not say which the processor has")
        return
    vectors, eight_bits, bfloat16 = (
        ", ".join(flag for flag in known if flag in flags) for known in (VECTORS, EIGHT_BITS, BFLOAT16)
    )
    if vectors:
        yield ok("vectors", vectors)
    else:
        yield warning(
            "vectors",
            "neither avx2 nor asimd: engines are several times slower here",
            "take another host; in a virtual machine, pass the host's processor through",
        )
    yield ok("int8", eight_bits) if eight_bits else absent("int8", f"no {_either(EIGHT_BITS)}: int8 is no faster here")
    yield ok("bf16", bfloat16) if bfloat16 else absent("bf16", f"no {_either(BFLOAT16)}: bf16 is no faster here")


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _cores() -> Finding:
    usable, logical = host.cores(), os.cpu_count() or 1
    found = f"{usable} physical cores may be used; the system has {logical} logical ones"
    if usable > 1:
        return ok("cores", found)
    return warning("cores", found, "an engine and HTTP share one core: allow more (taskset, cpu.max, --cpus of Docker)")


def _memory() -> Finding:
    limit, free = host.memory(), host.free_memory()
    if limit is None or free is None:
        return absent("memory", "the system does not say how much there is")
    found = f"{free / 2**30:.1f} GiB are free of {limit / 2**30:.1f} GiB that may be used"
    if free >= LITTLE_MEMORY:
        return ok("memory", found)
    return warning("memory", found, "end what else runs, or raise the limit (memory.max, --memory of Docker)")
