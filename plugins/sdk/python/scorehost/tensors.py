"""Tensors live on the host or on its GPU. A tensor may stand for a result that is still being computed: what reads
data waits for it, and raises its failure.

Scores come as `float32` makes them. `floats` gives every number as it is, which costs a fiftieth: what a row takes of
them is for `float32`.
"""

import math
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

from wit_world.imports import tensors as host

from .failures import Permanent, call

Element = Literal["unsigned-byte", "integer", "float"]

ELEMENTS: dict[host.Element, Element] = {
    host.Element.UNSIGNED_BYTE: "unsigned-byte",
    host.Element.INTEGER: "integer",
    host.Element.FLOAT: "float",
}


class Largest(NamedTuple):
    """The largest entries of each row, row after row: `width` of them a row, as many indices as scores."""

    width: int
    indices: list[int]
    scores: list[float]


class Tensor:
    """A handle on numbers of some shape."""

    __slots__ = ("_handle",)

    def __init__(self, handle: host.Tensor) -> None:
        """For the SDK: scripts get tensors from pictures, models, tables and numbers."""
        self._handle = handle

    @classmethod
    def from_floats(cls, shape: Sequence[int], data: Sequence[float]) -> Self:
        """Row-major data of the given shape; fails if their sizes differ."""
        return cls(call(host.Tensor.from_floats, list(shape), list(data)))

    @classmethod
    def from_integers(cls, shape: Sequence[int], data: Sequence[int]) -> Self:
        """Row-major data of the given shape; fails if their sizes differ."""
        return cls(call(host.Tensor.from_integers, list(shape), list(data)))

    @classmethod
    def from_bytes(cls, shape: Sequence[int], data: bytes) -> Self:
        """Row-major data of the given shape; fails if their sizes differ."""
        return cls(call(host.Tensor.from_bytes, list(shape), bytes(data)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension, outermost first."""
        return tuple(call(self._handle.shape))

    @property
    def element(self) -> Element:
        """What it holds."""
        return ELEMENTS[call(self._handle.element)]

    def floats(self) -> list[float]:
        """All of the data, row-major, as floats."""
        return call(self._handle.floats)

    def integers(self) -> list[int]:
        """All of the data, row-major, as integers; fails for floats."""
        return call(self._handle.integers)

    def slice(self, start: int, count: int) -> "Tensor":
        """Rows `start` to `start + count` along the first dimension; a view, not a copy."""
        return Tensor(call(self._handle.slice, start, count))

    def softmax(self) -> "Tensor":
        """Softmax along the last dimension."""
        return Tensor(self._handle.softmax())

    def top(self, k: int) -> Largest:
        """For each row, the `k` largest entries of the last dimension, largest first; of equal ones, the lower index."""
        largest = call(self._handle.top, k)
        return Largest(largest.width, largest.indices, [float32(score) for score in largest.scores])

    def best_of_rows(self) -> list[tuple[int, float]]:
        """The largest entry of each row, as index and score."""
        largest = self.top(1)
        return list(zip(largest.indices, largest.scores))

    def best(self) -> tuple[int, float]:
        """The largest entry of the first row, as index and score."""
        for best in self.best_of_rows():
            return best
        raise Permanent("the model gave no scores")


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape, stacked along a new first dimension."""
    return Tensor(call(host.stack, [part._handle for part in parts]))


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Tensors joined along their first dimension."""
    return Tensor(call(host.concatenate, [part._handle for part in parts]))


_SINGLE = struct.Struct("f")


def float32(value: float) -> float:
    """The double whose shortest decimal form is that of `value` in 32 bits, so that 0.1 is written `0.1`, as numpy and
    the other languages write it. Its nearest 32-bit float is the same one.
    """
    if not math.isfinite(value):
        return value
    (single,) = _SINGLE.unpack(_SINGLE.pack(value))
    # Six digits are never too many, but for numbers below the normal ones.
    for digits in range(6 if abs(single) >= 2**-126 else 1, 9):
        short = float(f"{single:.{digits}g}")
        if _SINGLE.unpack(_SINGLE.pack(short))[0] == single:
            return short
    return float(f"{single:.9g}")
