import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.batch import Clip
from server.streaming.buffer import Buffer
from server.streaming.cuts import Cut, OnSilence, Overlapping
from server.windows import Geometry, Span, cut_on_silence, spans

RATE = 100


def cut_as_it_comes(cut: Cut, clip: Clip, sizes: list[int]) -> list[Span]:
    """Return the windows of `clip`, which comes in pieces of `sizes` over and over, of a buffer that forgets."""
    buffer, found, start, turn = Buffer(1000), [], 0, 0
    while start < len(clip):
        piece = clip[start : start + sizes[turn % len(sizes)]]
        start, turn = start + len(piece), turn + 1
        buffer.append(piece)
        while cut.is_ready(buffer, has_ended=False):
            found.append(cut.next(buffer))
            assert found[-1].start >= buffer.start
            assert found[-1].end <= buffer.end
            buffer.forget(cut.start)
    while cut.is_ready(buffer, has_ended=True):
        found.append(cut.next(buffer))
        buffer.forget(cut.start)
    return found


SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=5)


@given(st.integers(0, 600), st.integers(0, 5), st.integers(1, 5), st.integers(1, 30), SIZES)
def test_windows_that_overlap_are_those_of_the_clip(
    more: int, context: int, unit: int, shortest: int, sizes: list[int]
) -> None:
    geometry = Geometry(100, context * unit, unit, shortest, longest=100)
    clip = np.zeros(shortest + more, np.float32)
    assert cut_as_it_comes(Overlapping(geometry), clip, sizes) == spans(len(clip), geometry)


@given(st.integers(0, 600), st.integers(1, 30), st.integers(0, 9), SIZES)
def test_windows_between_pauses_are_those_of_the_clip(more: int, shortest: int, seed: int, sizes: list[int]) -> None:
    geometry = Geometry(100, 0, 1, shortest, longest=100)
    clip = np.random.default_rng(seed).standard_normal(shortest + more).astype(np.float32)
    assert cut_as_it_comes(OnSilence(geometry, RATE), clip, sizes) == cut_on_silence(clip, geometry, RATE)


@pytest.mark.parametrize("kind", [Overlapping, OnSilence])
def test_no_window_before_its_time(kind: type) -> None:
    geometry = Geometry(100, 20, 4, 10, longest=100)
    cut: Cut = Overlapping(geometry) if kind is Overlapping else OnSilence(geometry, RATE)
    buffer = Buffer(200)
    assert not cut.is_ready(buffer, has_ended=True)
    buffer.append(np.zeros(100, np.float32))
    assert not cut.is_ready(buffer, has_ended=False)
    assert cut.is_ready(buffer, has_ended=True)


def test_a_window_late_in_a_stream_costs_no_more_than_the_first() -> None:
    """Of four hours in the shortest windows; if each looked at all before it, this would take hours."""
    samples, geometry = 4 * 3600 * 16_000, Geometry(8000, 2000, 320, 400)
    cut, buffer = Overlapping(geometry), Buffer(1)
    buffer.end = samples
    found = []
    while cut.is_ready(buffer, has_ended=True):
        found.append(cut.next(buffer))
    assert found == spans(samples, geometry)
    assert len(found) > 10_000
