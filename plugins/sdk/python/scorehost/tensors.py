"""Tensors live on the host or on its GPU. A tensor may stand for a result that is still being computed: what reads
data waits for it, and raises its failure.

Their floats are `float32`s: they count as they are, and are written as their shortest decimal form.
"""

import math
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

from wit_world.imports import tensors as host

from .failures import Permanent, call, integer, size

Element = Literal["unsigned-byte", "integer", "float"]

ELEMENTS: dict[host.Element, Element] = {
    host.Element.UNSIGNED_BYTE: "unsigned-byte",
    host.Element.INTEGER: "integer",
    host.Element.FLOAT: "float",
}


_SINGLE = struct.Struct("f")
_LARGEST = (2 - 2**-23) * 2.0**127
# Of ten, those that are exact.
_POWERS = [10.0**power for power in range(23)]


class float32(float):
    """A number of 32 bits. It counts as what it is, and is written as its shortest decimal form, as numpy and the other
    languages write it: 0.1, and not 0.10000000149011612. What is computed from it is a float like any other.
    """

    __slots__ = ()

    def shortest(self) -> float:
        """The double that is written like it. Its nearest 32-bit float is the same one."""
        if not abs(self) <= _LARGEST:
            return float(self)
        (single,) = _SINGLE.unpack(_SINGLE.pack(self))
        magnitude = abs(single)
        decade = math.floor(math.log10(magnitude)) if magnitude else 0
        # Six digits are never too many, but for numbers below the normal ones. Half a digit goes up, as in the other
        # languages; the product is exact, and so is the quotient as a parsed text would be.
        for digits in range(6, 10):
            power = digits - 1 - decade
            if abs(power) >= len(_POWERS):
                break
            if power >= 0:
                short = math.floor(magnitude * _POWERS[power] + 0.5) / _POWERS[power]
            else:
                short = math.floor(magnitude / _POWERS[-power] + 0.5) * _POWERS[-power]
            if _SINGLE.unpack(_SINGLE.pack(short))[0] == magnitude:
                return math.copysign(short, single)
        for digits in range(6 if magnitude >= 2**-126 else 1, 9):
            short = float(f"{single:.{digits}g}")
            if _SINGLE.unpack(_SINGLE.pack(short))[0] == single:
                return short
        return float(f"{single:.9g}")

    def __repr__(self) -> str:
        return repr(self.shortest())


class Largest(NamedTuple):
    """The largest entries of each row, row after row: `width` of them a row, as many indices as scores."""

    width: int
    indices: list[int]
    scores: list[float]


class Tensor:
    """A handle on numbers of some shape."""

    __slots__ = ("_tensor",)

    def __init__(self, handle: host.Tensor) -> None:
        """For the SDK: scripts get tensors from pictures, models, tables and numbers."""
        self._tensor = handle

    @classmethod
    def from_floats(cls, shape: Sequence[int], data: Sequence[float]) -> Self:
        """Row-major data of the given shape; fails if their sizes differ."""
        return cls(call(host.Tensor.from_floats, list(map(size, shape)), list(map(float, data))))

    @classmethod
    def from_integers(cls, shape: Sequence[int], data: Sequence[int]) -> Self:
        """Row-major data of the given shape; fails if their sizes differ."""
        return cls(call(host.Tensor.from_integers, list(map(size, shape)), list(map(integer, data))))

    @classmethod
    def from_bytes(cls, shape: Sequence[int], data: bytes) -> Self:
        """Row-major data of the given shape; fails if their sizes differ."""
        return cls(call(host.Tensor.from_bytes, list(map(size, shape)), bytes(data)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension, outermost first."""
        return tuple(call(self._tensor.shape))

    @property
    def element(self) -> Element:
        """What it holds."""
        return ELEMENTS[call(self._tensor.element)]

    def floats(self) -> list[float]:
        """All of the data, row-major, as floats."""
        return list(map(float32, call(self._tensor.floats)))

    def integers(self) -> list[int]:
        """All of the data, row-major, as integers; fails for floats."""
        return call(self._tensor.integers)

    def slice(self, start: int, count: int) -> "Tensor":
        """Rows `start` to `start + count` along the first dimension; a view, not a copy."""
        return Tensor(call(self._tensor.slice, size(start), size(count)))

    def softmax(self) -> "Tensor":
        """Softmax along the last dimension."""
        return Tensor(self._tensor.softmax())

    def top(self, k: int) -> Largest:
        """For each row, the `k` largest entries of the last dimension, largest first; of equal ones, the lower index."""
        largest = call(self._tensor.top, size(k))
        return Largest(largest.width, largest.indices, list(map(float32, largest.scores)))

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
    return Tensor(call(host.stack, [part._tensor for part in parts]))


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Tensors joined along their first dimension."""
    return Tensor(call(host.concatenate, [part._tensor for part in parts]))
