import errno
import os
from pathlib import Path

import numpy as np
import pytest

from server.audio.clips import MAX_BYTES_IN_MEMORY, Clips
from server.errors import MemoryFullError, RequestTooLargeError, StorageFullError
from server.memory import ReleasedError
from server.spool import Spool

BLOCK = np.arange(1 << 16, dtype=np.float32)  # 256 KiB
FIT = MAX_BYTES_IN_MEMORY // BLOCK.nbytes  # blocks
LIMIT = 2 * MAX_BYTES_IN_MEMORY


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 4 * MAX_BYTES_IN_MEMORY)


@pytest.fixture
def clips(spool: Spool) -> Clips:
    return Clips(LIMIT, spool)


@pytest.mark.parametrize("blocks", [1, FIT, FIT + 1, 2 * FIT])
def test_a_clip_is_what_was_written(clips: Clips, spool: Spool, blocks: int) -> None:
    with clips.hold() as hold:
        writer = hold.new()
        for index in range(blocks):
            block = BLOCK + index
            writer.write(block)
            writer.write(block[:0])
            block[:] = np.nan  # its memory is used again
        clip = writer.clip()
        np.testing.assert_array_equal(clip, np.concatenate([BLOCK + index for index in range(blocks)]))
        is_long = blocks > FIT
        assert clip.flags.writeable is not is_long
        assert (clips.held, spool.account.held) == ((0, clip.nbytes) if is_long else (clip.nbytes, 0))
    assert (clips.held, spool.account.held) == (0, 0)


def test_memory_bounds_short_clips_and_the_disk_long_ones(clips: Clips, spool: Spool) -> None:
    with clips.hold() as hold:
        for _ in range(2):
            writer = hold.new()
            for _ in range(FIT):
                writer.write(BLOCK)
        with pytest.raises(RequestTooLargeError, match="decoded audio"):
            hold.new().write(BLOCK)
        with clips.hold() as other, pytest.raises(MemoryFullError):
            other.new().write(BLOCK)
        writer.write(BLOCK)  # goes to the disk
        assert clips.held == MAX_BYTES_IN_MEMORY
        for _ in range(3 * FIT - 1):
            writer.write(BLOCK)
        with pytest.raises(RequestTooLargeError, match="audio on the disk"):
            writer.write(BLOCK)
    assert (clips.held, spool.account.held) == (0, 0)


@pytest.mark.parametrize("blocks", [1, FIT + 1])
def test_what_is_discarded_is_given_back(clips: Clips, spool: Spool, blocks: int) -> None:
    with clips.hold() as hold:
        writer = hold.new()
        for _ in range(blocks):
            writer.write(BLOCK)
        writer.discard()
        assert (clips.held, spool.account.held) == (0, 0)


@pytest.mark.parametrize("blocks", [1, FIT + 1])
def test_who_writes_on_for_a_request_that_has_ended_learns_it(clips: Clips, blocks: int) -> None:
    with clips.hold() as hold:
        hold.check()
        writer = hold.new()
        for _ in range(blocks):
            writer.write(BLOCK)
    with pytest.raises(ReleasedError):
        writer.write(BLOCK)
    with pytest.raises(ReleasedError):
        hold.check()


def test_a_full_disk_fails_long_clips_only(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", fail)
    with clips.hold() as hold:
        writer = hold.new()
        for _ in range(FIT):
            writer.write(BLOCK)
        with pytest.raises(StorageFullError):
            writer.write(BLOCK)
