from __future__ import annotations

import resource
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines import host
from sonant.doctor import server
from sonant.doctor.finding import Finding

ENGINES = Path(__file__).parents[3] / "demo/engines"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server whose folders are in one of its own, on a port that nobody has."""
    for name in ("spool", "cache"):
        monkeypatch.setenv(f"SONANT_{name.upper()}", str(tmp_path / name))
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SONANT_PORT", "0")
    monkeypatch.setenv("SONANT_SPOOL_BYTES", str(2**33))
    monkeypatch.setattr(server, "_file_system", lambda folder: "ext4")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**34))
    return tmp_path


def looked(given: Mapping[str, str] | None = None) -> dict[str, Finding]:
    return {found.name: found for found in server.check(given or {})}


def test_all_is_well() -> None:
    found = looked({"models": str(ENGINES)})
    assert {one.status for one in found.values()} == {"ok"}
    assert list(found) == ["settings", "models", "spool", "cache", "files", "port"]
    assert found["models"].found.startswith(f"{ENGINES} holds 6: ast-sound-events, ")
    assert found["settings"].found == "set: cache, models, port, spool, spool_bytes; the others by default"


def test_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SONANT_PRT", "8000")
    (found,) = server.check({})
    assert (found.status, "SONANT_PRT" in found.found) == ("problem", True)
    monkeypatch.delenv("SONANT_PRT")
    (found,) = server.check({"config": str(tmp_path / "none.toml")})
    assert (found.status, "none.toml" in found.found) == ("problem", True)


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert looked()["models"].status == "not here"  # nobody has named one
    found = looked({"models": str(tmp_path / "none")})["models"]
    assert (found.status, "--models" in found.mend) == ("problem", True)
    found = looked({"models": str(tmp_path / "spool")})["models"]
    assert (found.status, "holds no engine" in found.found) == ("warning", True)


def test_a_spool_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_file_system", lambda folder: "tmpfs")
    found = looked()["spool"]
    assert (found.status, "is a tmpfs" in found.found, "--spool" in found.mend) == ("warning", True, True)


def test_a_spool_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**32))
    found = looked()["spool"]
    assert (found.status, "4.0 GiB free, and spool_bytes allows 8.0 GiB" in found.found) == ("warning", True)


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SONANT_SPOOL", str(tmp_path / "none"))
    monkeypatch.setenv("SONANT_CACHE", str(tmp_path / "file" / "cache"))
    found = looked()
    assert (found["spool"].status, "No such file" in found["spool"].found) == ("problem", True)
    assert (found["cache"].status, "calibrations are not kept" in found["cache"].found) == ("warning", True)


def test_a_cache_that_will_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_CACHE", str(tmp_path / "a" / "b"))
    assert looked()["cache"].status == "ok"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("hard", "status"), [(1024, "warning"), (4096, "ok"), (resource.RLIM_INFINITY, "ok")])
def test_open_files(hard: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, hard))
    found = looked()["files"]
    assert found.status == status
    assert ("ulimit -n 1280" in found.mend) == (status == "warning")


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("SONANT_PORT", str(listener.getsockname()[1]))
        found = looked()["port"]
    assert (found.status, "is in use" in found.found) == ("warning", True)


def test_an_address_of_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_HOST", "192.0.2.1")
    found = looked()["port"]
    assert (found.status, "--host" in found.mend) == ("problem", True)


def test_without_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic_settings", None)
    (found,) = server.check({})
    assert (found.status, found.mend) == ("not here", "pip install 'sonant[serve]'")


def test_the_file_system_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "self").mkdir()
    root = tmp_path.resolve()
    mounts = ["/dev/a / ext4 rw 0 0", f"tmpfs {root} tmpfs rw 0 0", f"/dev/b {root}/a\\040b xfs rw 0 0"]
    (tmp_path / "self/mounts").write_text("\n".join(mounts))
    monkeypatch.setattr(host, "PROC", tmp_path)
    places = [Path("/"), root / "x", root / "a b" / "c"]
    assert [server._file_system(place) for place in places] == ["ext4", "tmpfs", "xfs"]
    monkeypatch.setattr(host, "PROC", tmp_path / "none")
    assert server._file_system(Path("/")) == ""
