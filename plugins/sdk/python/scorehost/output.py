"""Rows of plain values → the contract's typed columns."""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

from wit_world.imports import types as contract

from .failures import Permanent, Transient, reason, size, text
from .tensors import float32

Cell = bool | int | float | str | None
Row = Sequence[Cell]


@dataclass(slots=True)
class FailedFile:
    """A file that gave no row, by its index in the list given, and why."""

    index: int
    reason: str


def file_name(path: str) -> str:
    """The last part of a path: `cat.jpg` for `/input/pets/cat.jpg`."""
    return path.rsplit("/", 1)[-1]


class Output:
    """The rows of one mini-batch, and its failed files."""

    __slots__ = ("_names", "_rows", "_failed")

    def __init__(self, columns: Sequence[str]) -> None:
        """No rows yet, with these columns."""
        self._names = list(columns)
        self._rows: list[Row] = []
        self._failed: list[FailedFile] = []

    def push(self, row: Row) -> None:
        """Adds a row: one value per column."""
        if not isinstance(row, (tuple, list)) or len(row) != len(self._names):
            raise ValueError(f"a row must be a tuple or a list, one value per column, {len(self._names)} of them: {row!r}")
        # A copy: the list may be filled anew for the next row.
        self._rows.append(tuple(row))

    def append(self, columns: Mapping[str, Sequence[Cell]]) -> None:
        """Adds rows as columns of one length, with the names of those before; the first give the output its names."""
        lengths = {len(cells) for cells in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of one length are wanted, not of {sorted(lengths)} cells")
        if not self._names and not self._rows:
            self._names = list(columns)
        if self._names != list(columns):
            raise ValueError(f"the columns are {list(columns)}, and were {self._names} before")
        self._rows.extend(zip(*columns.values()))

    def fail(self, index: int, reason: str) -> None:
        """Notes that the file at `index` of the mini-batch gave no row."""
        self._failed.append(FailedFile(index, reason))

    def fail_all(self, failed: Iterable[FailedFile]) -> None:
        """Notes each of `failed`, as `images.load` returns them."""
        self._failed.extend(failed)

    def _contract(self) -> contract.Output:
        columns = zip(*self._rows) if self._rows else [()] * len(self._names)
        return contract.Output(
            [column(name, cells) for name, cells in zip(self._names, columns)],
            [contract.FailedFile(size(failed.index), text(failed.reason)) for failed in self._failed],
        )


@overload
def by_file(mini_batch: Sequence[str], columns: Sequence[str], predict: Callable[[str], Row]) -> Output: ...
@overload
def by_file[T](
    mini_batch: Sequence[str], columns: Sequence[str], predict: Callable[[str], T], read: Callable[[str, T], Row]
) -> Output: ...
def by_file(mini_batch, columns, predict, read=None):
    """One row a file, or one failure.

    Calls `predict(file)` on every file before the first `read(file, what predict gave)` makes a row of it, so that what
    a model computes goes on meanwhile. Without `read`, what `predict` returns is the row. An exception fails that file
    alone; `Transient` ends the mini-batch, so that the host tries it again.
    """
    output = Output(columns)
    started: list[Any] = [attempt(lambda: predict(file)) for file in mini_batch]
    for index, file in enumerate(mini_batch):
        # Taken out, so that tensors go as their rows come.
        result, started[index] = started[index], None
        if not isinstance(result, Failed):
            row = result
            result = attempt(lambda: output.push(row if read is None else read(file, row)))
        if isinstance(result, Failed):
            output.fail(index, result.reason)
    return output


class Failed(NamedTuple):
    """In words, why something for one file failed."""

    reason: str


def attempt[T](work: Callable[[], T]) -> T | Failed:
    """What `work` gives, or why it failed. `Transient` is not for one file, and passes."""
    try:
        return work()
    except Transient:
        raise
    except Exception as error:
        if not isinstance(error, Permanent):
            traceback.print_exc()
        return Failed(reason(error))


def from_returned(returned: object) -> Output:
    """What `run` gave, as an output. Values and tuples are columns named 0, 1, …, as pandas names them."""
    if isinstance(returned, Output):
        return returned
    if returned is None:
        return Output([])
    if isinstance(returned, (str, bytes, Mapping)) or not isinstance(returned, Iterable):
        raise TypeError(f"run must return rows as a list, an Output or None, not `{type(returned).__name__}`")
    rows = list(returned)
    if rows and all(isinstance(row, Mapping) for row in rows):
        names = list(dict.fromkeys(name for row in rows for name in row))
        rows = [[row.get(name) for name in names] for row in rows]
    else:
        rows = [row if isinstance(row, (tuple, list)) else (row,) for row in rows]
        names = [str(index) for index in range(len(rows[0]) if rows else 0)]
    output = Output(names)
    for row in rows:
        output.push(row)
    return output


# What a column can hold: how a Python type is called in errors, whether it is one of them, the case, and what stands
# for an empty cell. A bool is an int too, so it comes first.
_KINDS: list[tuple[str, type, Callable[[list], contract.Cells], Cell]] = [
    ("booleans", bool, contract.Cells_Booleans, False),
    ("integers", int, contract.Cells_Integers, 0),
    ("numbers", float, contract.Cells_Numbers, 0.0),
    ("texts", str, contract.Cells_Texts, ""),
]


def column(name: str, cells: Sequence[Cell]) -> contract.Column:
    """One typed column: integers among numbers become numbers; other mixtures are refused."""
    nulls = [index for index, cell in enumerate(cells) if cell is None] if None in cells else []
    found = {_kind(name, kind) for kind in set(map(type, cells)) if kind is not type(None)}
    if found == {"integers", "numbers"}:
        found = {"numbers"}
    if len(found) > 1:
        raise Permanent(f"column `{name}` mixes {' and '.join(sorted(found))}")
    wanted = found.pop() if found else "integers"
    for kind, plain, case, empty in _KINDS:
        if kind == wanted:
            values: list[Any] = [empty if cell is None else _plain(cell, plain) for cell in cells]
            if plain is int and not all(-(2**63) <= value < 2**63 for value in values):
                raise Permanent(f"column `{name}` holds an integer of more than 64 bits")
            return contract.Column(text(name), case(values), nulls)
    raise AssertionError(wanted)


def _plain(cell: Cell, kind: type) -> Cell:
    if isinstance(cell, float32):
        return cell.shortest()
    return text(cell) if isinstance(cell, str) else kind(cell)


def _kind(name: str, kind: type) -> str:
    for name_of_kind, plain, _, _ in _KINDS:
        if issubclass(kind, plain):
            return name_of_kind
    raise Permanent(f"column `{name}` holds `{kind.__name__}`, which is neither a boolean, a number nor a text")
