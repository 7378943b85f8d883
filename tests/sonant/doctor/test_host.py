from __future__ import annotations

import pytest

from engines import host as of_host
from sonant.doctor import host
from sonant.doctor.finding import Finding


def looked(monkeypatch: pytest.MonkeyPatch, flags: str = "avx2", **values: int | None) -> dict[str, Finding]:
    """What is found on a host of this kind."""
    known: dict[str, int | None] = {"cores": 8, "memory": 16 * 2**30, "free_memory": 8 * 2**30, **values}
    monkeypatch.setattr(of_host, "processor_flags", lambda: frozenset(flags.split()))
    for name, value in known.items():
        monkeypatch.setattr(of_host, name, lambda value=value: value)
    return {found.name: found for found in host.check()}


def test_a_host_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(monkeypatch, "fpu avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8")
    assert {one.status for one in found.values()} == {"ok"}
    assert found["vectors"].found == "avx2, avx512f"
    assert found["int8"].found == "avx512_vnni, amx_int8"
    assert found["bf16"].found == "avx512_bf16, amx_bf16"
    assert found["cores"].found.startswith("8 physical cores")
    assert found["memory"].found == "8.0 GiB are free of 16.0 GiB that may be used"


def test_on_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(monkeypatch, "fp asimd asimddp i8mm bf16 sve")
    assert [found[name].found for name in ("vectors", "int8", "bf16")] == ["asimd, sve", "i8mm, asimddp", "bf16"]


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(monkeypatch, "fpu sse4_2", cores=1, free_memory=2**29)
    assert {name: one.status for name, one in found.items()} == {
        "processor": "ok",
        "vectors": "warning",
        "int8": "not here",
        "bf16": "not here",
        "cores": "warning",
        "memory": "warning",
    }
    assert all(found[name].mend for name in ("vectors", "cores", "memory"))


def test_a_system_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(monkeypatch, "", memory=None)
    assert (found["instructions"].status, found["memory"].status) == ("not here", "not here")
