from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime
import pytest

from sonant.doctor.elf import needed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libraries of other systems are of another kind")
CAPI = Path(onnxruntime.__file__).parent / "capi"


@pytest.fixture
def library() -> Path:
    return CAPI / "libonnxruntime_providers_shared.so"


def test_what_a_library_needs(library: Path) -> None:
    assert {"libstdc++.so.6", "libc.so.6"} <= set(needed(library))
    assert all(name.startswith(("lib", "ld-")) for name in needed(library))


def test_a_large_one_is_not_read_whole() -> None:
    (bindings,) = CAPI.glob("onnxruntime_pybind11_state*.so")
    assert {"libm.so.6", "libc.so.6"} <= set(needed(bindings))


@pytest.mark.parametrize("size", [100, 1000])
def test_one_that_is_cut_short(size: int, library: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.so"
    cut.write_bytes(library.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"cut\.so"):
        needed(cut)


def test_another_file(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("GROUP ( libc.so.6 )")
    with pytest.raises(ValueError, match="no library"):
        needed(tmp_path / "text.so")
