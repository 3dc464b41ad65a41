"""Tables, read and written by the host as typed columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Self

from wit_world.imports import tables as host
from wit_world.imports import types as contract

from .failures import call, size, text
from .output import Cell, Failed, Output, attempt, column
from .tensors import Tensor

Kind = Literal["boolean", "integer", "number", "text"]

KINDS: dict[host.Kind, Kind] = {
    host.Kind.BOOLEAN: "boolean",
    host.Kind.INTEGER: "integer",
    host.Kind.NUMBER: "number",
    host.Kind.TEXT: "text",
}


class Field(NamedTuple):
    """A column of a table."""

    name: str
    kind: Kind


class Batch:
    """Some rows of a table, held by the host."""

    __slots__ = ("_batch",)

    def __init__(self, handle: host.Batch) -> None:
        """For the SDK: scripts get batches from a table."""
        self._batch = handle

    def __len__(self) -> int:
        """Its rows."""
        return self._batch.rows()

    def columns(self) -> dict[str, list[Cell]]:
        """Every column by name, in the table's order; an empty cell is `None`."""
        return {column.name: _cells(column) for column in call(self._batch.columns)}

    def column(self, name: str) -> list[Cell]:
        """One column; an empty cell is `None`."""
        return _cells(call(self._batch.column, text(name)))

    def tensor(self, columns: Sequence[str]) -> Tensor:
        """These columns as floats, rows × columns: booleans are 0 and 1, an empty cell is NaN. Fails for texts."""
        return Tensor(call(self._batch.tensor, list(map(text, columns))))


class Table:
    """A CSV or Parquet file of the mini-batch, read once from its beginning to its end."""

    __slots__ = ("_table",)

    def __init__(self, handle: host.Table) -> None:
        """For the SDK: scripts call `Table.open`."""
        self._table = handle

    @classmethod
    def open(cls, file: str) -> Self:
        """Reads the header. In CSV, a column is of the narrowest kind that all its cells fit; in Parquet, as the file
        says.
        """
        return cls(call(host.Table.open, text(file)))

    @property
    def fields(self) -> list[Field]:
        """Its columns."""
        return [Field(field.name, KINDS[field.kind]) for field in self._table.fields()]

    def next(self, rows: int) -> Batch | None:
        """The next rows, at most this many; `None` at the end."""
        handle = call(self._table.next, size(rows))
        return None if handle is None else Batch(handle)

    def batches(self, rows: int) -> Iterator[Batch]:
        """All that is left, at most this many rows at a time."""
        while (batch := self.next(rows)) is not None:
            yield batch


def by_table(
    mini_batch: Sequence[str], rows: int, score: Callable[[Batch], Mapping[str, Sequence[Cell]]]
) -> Output:
    """Reads each file as a table, `rows` rows at a time, and keeps the columns that `score` makes of them. An exception
    fails that file alone, with all its rows; `Transient` ends the mini-batch, so that the host tries it again.
    """
    output = Output([])
    for index, file in enumerate(mini_batch):
        parts = attempt(lambda: [score(batch) for batch in Table.open(file).batches(rows)])
        if isinstance(parts, Failed):
            output.fail(index, parts.reason)
        else:
            for columns in parts:
                output.append(columns)
    return output


class Writer:
    """A file that the script writes below its output folder, where the deployment gives it one.

    In a `with` block it is finished at the end, unless the block raises.
    """

    __slots__ = ("_writer",)

    def __init__(self, handle: host.Writer) -> None:
        """For the SDK: scripts call `Writer.create`."""
        self._writer = handle

    @classmethod
    def create(cls, file: str) -> Self:
        """`.csv`, `.jsonl` or `.parquet`, as the name ends; folders on the way are made. Replaces a file that is there."""
        return cls(call(host.Writer.create, text(file)))

    def write(self, columns: Mapping[str, Sequence[Cell]]) -> None:
        """Further rows: columns of one length, with the names and types of the first."""
        call(self._writer.write, [column(name, cells) for name, cells in columns.items()])

    def finish(self) -> None:
        """Makes the file complete; without it, or after a failure, it is not there."""
        call(self._writer.finish)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.finish()


def _cells(column: contract.Column) -> list[Cell]:
    cells: list[Cell] = list(column.cells.value)
    for index in column.nulls:
        cells[index] = None
    return cells
