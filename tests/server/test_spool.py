import errno
import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from server.errors import MemoryFullError, RequestTooLargeError, StorageFullError
from server.memory import Hold, ReleasedError
from server.spool import Part, Spool, SpoolFile, forget

PAGE = mmap.PAGESIZE


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 1 << 26)


def resident(array: np.ndarray) -> int:
    """Return the bytes of the mapping of `array` that are in memory."""
    start = f"{array.ctypes.data:x}-"
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.startswith(start):
            return next(int(one.split()[1]) for one in lines if one.startswith("Rss:")) * 1024
    raise AssertionError("it is not mapped")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def written(spool: Spool, hold: Hold, pages: int) -> SpoolFile:
    file = spool.file(hold)
    for page in range(pages):
        file.append(np.full(PAGE // 4, page, np.float32).data)
    return file


@pytest.mark.parametrize("kind", ["missing", "file", "read-only"])
def test_a_directory_that_cannot_be_used_is_said_at_the_start(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    if kind == "file":
        folder.touch()
    if kind == "read-only":  # root may write where nobody may
        folder.mkdir()
        monkeypatch.setattr("tempfile.TemporaryFile", failing(errno.EROFS))
    with pytest.raises(ValueError, match=f"spool: no file can be made in {folder}"):
        Spool(folder, 1)


def failing(number: int) -> object:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def test_files_have_no_names_and_end_with_who_has_them(spool: Spool, tmp_path: Path) -> None:
    gc.collect()  # what other tests have left
    before = descriptors()
    with spool.hold() as hold:
        file = written(spool, hold, 3)
        assert list(tmp_path.iterdir()) == []
        assert spool.account.held == file.size == 3 * PAGE
        array = file.array()
        del file
        assert descriptors() == before + 1  # that of the mapping
        np.testing.assert_array_equal(array, np.repeat(np.arange(3, dtype=np.float32), PAGE // 4))
        del array
        assert descriptors() == before
    assert spool.account.held == 0


def test_what_is_mapped_outlives_its_file_and_is_read_only(spool: Spool) -> None:
    with spool.hold() as hold:
        array = written(spool, hold, 1).array()
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_pages_that_are_forgotten_take_no_memory_and_come_back(spool: Spool) -> None:
    with spool.hold() as hold:
        array = written(spool, hold, 256).array()
    total = float(array.sum())
    assert resident(array) == 256 * PAGE
    samples = PAGE // 4
    forget(array[10 * samples + 5 : 20 * samples + 5])  # of 11 pages
    assert resident(array) == 245 * PAGE
    forget(array[100:101])
    assert resident(array) == 244 * PAGE
    forget(array[:0])
    forget(array)
    assert resident(array) == 0
    assert float(array.sum()) == total


def test_arrays_in_memory_are_not_forgotten() -> None:
    pages = mmap.mmap(-1, 4 * PAGE)  # not of a file: what is given back is lost
    for array in (np.ones(4 * PAGE, np.float32), np.frombuffer(pages, np.float32)):
        array[:] = 1
        forget(array[PAGE // 4 :])
        assert array.min() == 1
    del array
    pages.close()


def test_a_part_is_read_as_a_file(spool: Spool) -> None:
    with spool.hold() as hold:
        file = spool.file(hold)
        file.append(b"before")
        file.append(bytes(range(100)))
        file.append(b"behind")
        with Part(file, 6, 100) as first, Part(file, 6, 100) as second:
            assert first.read() == second.read() == bytes(range(100))
            assert first.seek(-3, os.SEEK_END) == 97
            assert first.read(10) == bytes([97, 98, 99])
            assert first.seek(-2, os.SEEK_CUR) == 98
            assert first.read(1) == bytes([98])
            assert first.seek(1000) == 1000
            assert first.read(1) == b""
            with pytest.raises(ValueError, match="nothing at -1"):
                first.seek(-1)


def test_more_than_there_is_room_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    with spool.hold() as first, spool.hold() as second:
        file = spool.file(first)
        file.append(bytes(60))
        with pytest.raises(RequestTooLargeError, match="audio on the disk takes 101 bytes"):
            file.append(bytes(41))
        with pytest.raises(MemoryFullError):
            spool.file(second).append(bytes(41))
        file.discard()
        spool.file(second).append(bytes(100))
    assert spool.account.held == 0
    with pytest.raises(ReleasedError):
        file.append(b"x")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_is_full(spool: Spool, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with spool.hold() as hold:
        file = spool.file(hold)
        monkeypatch.setattr(os, "pwrite", failing(number))
        with pytest.raises(StorageFullError) as caught:
            file.append(b"x")
        assert caught.value.status == 507
        monkeypatch.setattr("tempfile.TemporaryFile", failing(errno.EMFILE))
        with pytest.raises(StorageFullError):
            spool.file(hold)
    assert spool.account.held == 0


def test_a_write_that_is_short_goes_on(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, place: write(descriptor, data[:7], place))
    with spool.hold() as hold:
        file = spool.file(hold)
        file.append(bytes(range(100)))
        with Part(file, 0, 100) as part:
            assert part.read() == bytes(range(100))
