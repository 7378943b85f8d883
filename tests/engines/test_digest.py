from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engines.digest import sha256


@pytest.mark.parametrize("content", [b"", b"engine", bytes(1_000_003)])
def test_the_digest_is_that_of_the_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256(tmp_path / "file")
