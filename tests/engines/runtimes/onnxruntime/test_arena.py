from __future__ import annotations

from engines.runtimes.onnxruntime.arena import SHRINK, SMALL_RUNS, Arena

LARGE, SMALL = 1000, 400


def shrinks(arena: Arena, samples: int) -> bool:
    options = arena.run_options(samples)
    assert options is None or options.get_run_config_entry(SHRINK) == f"gpu:{arena.device_id}"
    return options is not None


def test_what_large_batches_take_is_kept() -> None:
    arena = Arena(0)
    assert not any(shrinks(arena, samples) for samples in [LARGE, SMALL, 600] * SMALL_RUNS)


def test_what_a_large_batch_took_is_given_back_after_many_small_ones() -> None:
    arena = Arena(1)
    runs = [shrinks(arena, samples) for samples in [LARGE, *[SMALL] * 2 * SMALL_RUNS]]
    assert [index for index, shrunk in enumerate(runs) if shrunk] == [SMALL_RUNS]


def test_steps_of_a_decoder_are_no_small_batches() -> None:
    arena = Arena(0)
    assert not any(shrinks(arena, samples) for samples in [LARGE, *[0] * 2 * SMALL_RUNS])


def test_all_sessions_of_a_gpu_that_is_short_give_back_what_they_can() -> None:
    short, beside, elsewhere = Arena(0), Arena(0), Arena(1)
    short.short()
    assert [shrinks(arena, 0) for arena in (short, beside, elsewhere)] == [True, True, False]
    assert not shrinks(short, LARGE)  # once is enough
