import pytest

from engines.manifest import Output
from server.kept import WHOLE_ANSWER_VALUES, Kept
from server.windows import Span
from tests.server.tasks.manifests import manifest

WIDTH = 4
SECOND = [Span.whole(16_000)]


def test_all_frames_of_each_output_are_kept() -> None:
    [frames] = {Kept([name]).size(manifest(), SECOND) // (4 * WIDTH) for name in ("embeddings", "hidden_states.2")}
    assert 49 <= frames <= 51  # the engine decides what becomes of the last samples
    assert Kept(["embeddings", "hidden_states.2"]).size(manifest(), SECOND) == 2 * frames * 4 * WIDTH


def test_of_a_frame_less_may_be_kept_than_its_values() -> None:
    assert Kept(["embeddings"], frame_bytes=8).size(manifest(), SECOND) == 51 * 8


def test_each_window_counts_with_what_it_sees() -> None:
    spans = [Span(0, 16_000, 0, 8_000), Span(0, 16_000, 8_000, 16_000), Span(8_000, 40_000, 16_000, 40_000)]
    assert Kept(["embeddings"]).size(manifest(), spans) == (51 + 51 + 101) * 4 * WIDTH


def test_one_vector_of_each_is_kept_where_frames_are_pooled() -> None:
    for timed in (True, False):
        assert Kept(["embeddings"], pooled=True).size(manifest(timed=timed), SECOND * 3) == 3 * 8 * WIDTH


def test_rows_that_are_not_frames_are_as_many_for_any_clip() -> None:
    assert Kept(["embeddings"]).size(manifest(timed=False), [Span.whole(1)]) == 7 * WIDTH * 4
    assert Kept(["embeddings"]).size(manifest(timed=False), [Span.whole(99_999)]) == 7 * WIDTH * 4


def test_attentions_grow_with_the_square() -> None:
    attention = Output(name="a", shape=("batch", 2, "frames", "frames"), lengths="frames", samples_per_frame=320)
    of = manifest().model_copy(update={"outputs": (attention,)})
    assert Kept(["a"]).size(of, [Span.whole(320_000)]) == 4 * 2 * 1001**2


def test_the_answer_counts_too() -> None:
    array, answer = (Kept(["embeddings"], answer_bytes=size).size(manifest(), SECOND) for size in (0, 20))
    assert answer == pytest.approx(6 * array)


def test_an_answer_that_is_sent_in_pieces_counts_no_more_than_one_that_is_not() -> None:
    spans = [Span.whole(16_000)] * 10_000
    arrays = Kept(["embeddings"]).size(manifest(), spans)
    assert Kept(["embeddings"], answer_bytes=20).size(manifest(), spans) == arrays + 20 * WHOLE_ANSWER_VALUES
