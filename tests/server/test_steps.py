from functools import partial

import pytest

from server.steps import Steps, at_once, finish, take


def count(seen: list[int], to: int) -> Steps[str]:
    for number in range(to):
        yield
        seen.append(number)
    return "done"


def test_one_step_at_a_time() -> None:
    seen: list[int] = []
    steps = count(seen, 2)
    assert (take(steps), seen) == (None, [])
    assert (take(steps), seen) == (None, [0])
    assert (take(steps), seen) == (("done",), [0, 1])


def test_all_steps_at_once() -> None:
    seen: list[int] = []
    assert finish(count(seen, 3)) == "done"
    assert seen == [0, 1, 2]


def test_a_single_step_happens_when_it_is_taken() -> None:
    seen: list[int] = []
    steps = at_once(partial(seen.append, 1))
    assert seen == []
    assert take(steps) == (None,)
    assert seen == [1]


def test_what_a_step_raises() -> None:
    def failing() -> Steps[None]:
        yield
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        finish(failing())
