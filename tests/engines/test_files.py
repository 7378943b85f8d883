from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.files import check_regular, read


def test_a_regular_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    check_regular(path)
    assert read(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read(path, 4)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read(link, 5) == b"12345"


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            read(path, 10)
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "nothing")
