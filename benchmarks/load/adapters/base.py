"""What an adapter is: a clip becomes a request, and an answer a result."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.client import Answer, Request
from engines.batch import Clip
from engines.verify import error

Result = NDArray[np.float32] | str  # embeddings or scores of any shape, or a text


@dataclass(frozen=True)
class Adapter(ABC):
    """How one kind of server is asked. Its options are strings: the command line gives them."""

    @abstractmethod
    def request(self, clip: Clip, sample_rate: int) -> Request:
        """Return what asks for `clip`."""

    @abstractmethod
    def read(self, answer: Answer) -> Result:
        """Return what is in an answer with status 200; any error where it is another."""

    def result(self, answer: Answer) -> Result:
        """Return what is in an answer with status 200; ValueError where that is no result, such as one with NaN."""
        try:
            found = self.read(answer)
        except Exception as problem:  # an answer can be wrong in every way that there is
            raise ValueError(f"the answer is not as expected ({problem!r}): {answer.body[:100]!r}") from problem
        if isinstance(found, np.ndarray) and not (found.size and np.isfinite(found).all()):
            raise ValueError(f"the answer, {list(found.shape)}, has no values or some that are not finite")
        return found


def floats(encoded: str) -> NDArray[np.float32]:
    """Return the numbers of base64 of little-endian float32: [n]."""
    return np.frombuffer(base64.b64decode(encoded, validate=True), "<f4")


def difference(result: Result, reference: Result) -> float:
    """Return the error of a result, or for texts 0 where they are equal and 1 where not."""
    if isinstance(result, np.ndarray) and isinstance(reference, np.ndarray):
        return error(result, reference)
    return float(not isinstance(result, str) or result != reference)


def check_choice(option: str, value: str, *choices: str) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{option}={value}: choose one of {', '.join(choices)}")
