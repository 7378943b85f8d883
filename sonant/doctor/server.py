"""What `sonant serve` needs of this host, with the settings that it would have."""

from __future__ import annotations

import errno
import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engines import host
from sonant.doctor.configuration import load
from sonant.doctor.finding import Finding, absent, ok, problem, warning
from sonant.doctor.request import Job, Request

if TYPE_CHECKING:
    from server.settings import Settings

IN_MEMORY = {"tmpfs", "ramfs"}
# Open files beside those of connections: engines, the cache, the decoders' pipes, what Python itself has open.
OTHER_FILES = 256
# Of a connection: its socket, and a file in the spool.
FILES_PER_CONNECTION = 2


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks."""
    yield Job("settings", {"given": dict(request.settings)})


def check(given: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the settings, and at what they name; `given` are those of the command line."""
    try:
        settings = load(given)
    except ImportError as error:
        yield absent("settings", f"the server is not installed ({error})", "pip install 'sonant[serve]'")
        return
    except ValueError as error:
        yield problem("settings", str(error), "correct what it names, in the environment or in the file")
        return
    yield ok("settings", f"set: {', '.join(sorted(settings.model_fields_set)) or 'none'}; the others by default")
    yield _models(settings.models, is_given="models" in settings.model_fields_set)
    yield from _spool(settings.spool, settings.spool_bytes)
    yield _cache(settings.cache)
    yield _descriptors(settings.max_connections)
    yield _port(settings)


def _models(folder: Path, *, is_given: bool) -> Finding:
    from engines.errors import EngineNotFoundError
    from engines.repository import find_engines

    mend = "name the folder that holds engines with --models; write one with `sonant export`"
    try:
        found = find_engines(folder)
    except (EngineNotFoundError, OSError):
        return (problem if is_given else absent)("models", f"{folder} is not a folder that can be read", mend)
    if not found:
        return warning("models", f"{folder} holds no engine", mend)
    return ok("models", f"{folder} holds {len(found)}: {', '.join(found)}")


def _spool(folder: Path, wanted: int) -> Iterator[Finding]:
    reason = _unwritable(folder)
    if reason is not None:
        yield problem("spool", reason, "make the folder writable, or name another with --spool")
        return
    kind = _file_system(folder)
    if kind in IN_MEMORY:
        yield warning(
            "spool",
            f"{folder} is a {kind}: uploads that are too large for memory would be in memory",
            "name a folder on a disk with --spool, or a smaller --spool-bytes",
        )
        return
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {kind or 'of an unknown kind'}, {free / 2**30:.1f} GiB free"
    if free >= wanted:
        yield ok("spool", found)
    else:
        yield warning(
            "spool",
            f"{found}, and spool_bytes allows {wanted / 2**30:.1f} GiB",
            f"make room, name another folder with --spool, or set --spool-bytes {free // 2}",
        )


def _cache(folder: Path) -> Finding:
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    reason = _unwritable(there)
    if reason is None:
        return ok("cache", str(folder))
    return warning("cache", f"{reason}: calibrations are not kept", "make it writable, or name another with --cache")


def _unwritable(folder: Path) -> str | None:
    """Return why no file can be made in `folder`; None if one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"no file can be made in {folder} ({error.strerror})"


def _file_system(folder: Path) -> str:
    """Return the kind of file system that `folder` is on; empty where nobody says."""
    file, place, kind = host.PROC / "self/mounts", folder.resolve(), ""
    longest = -1
    for line in file.read_text().splitlines() if file.is_file() else ():
        _, mounted, found, *_ = line.split()
        root = Path(mounted.replace("\\040", " "))
        if place.is_relative_to(root) and len(root.parts) >= longest:  # the last of those at one place hides the others
            longest, kind = len(root.parts), found
    return kind


def _descriptors(connections: int) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_PER_CONNECTION * connections + OTHER_FILES
    found = "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard} may be open"
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return ok("files", found)
    return warning(
        "files",
        f"{found}, and {connections} connections may take {wanted}",
        f"ulimit -n {wanted} (LimitNOFILE= of systemd, --ulimit nofile= of Docker), or fewer --max-connections",
    )


def _port(settings: Settings) -> Finding:
    address = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return warning(
                "port", f"{address} is in use", "if it is not this server that runs, name another with --port"
            )
        said = error.strerror or str(error)
        return problem(
            "port",
            f"{address} cannot be listened on ({said})",
            "set --host to an address of this host, or --port to one above 1023",
        )
    return ok("port", f"{address} is free")
