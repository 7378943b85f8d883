import numpy as np

from server.streaming.buffer import Buffer


def test_what_is_held() -> None:
    buffer = Buffer(5)
    buffer.append(np.arange(4, dtype=np.float32))
    assert (buffer.start, buffer.end, buffer.room) == (0, 4, 1)
    kept = buffer.copy(1, 4)
    buffer.forget(3)
    buffer.append(np.array([4, 5, 6, 7], np.float32))
    assert (buffer.start, buffer.end, buffer.room) == (3, 8, 0)
    assert buffer.copy(3, 8).tolist() == [3, 4, 5, 6, 7]
    assert kept.tolist() == [1, 2, 3]
