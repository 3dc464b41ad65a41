// Tables, read and written by the host as typed columns.

import type * as contract from "scorehost:script/types@0.2.0";
import * as host from "scorehost:script/tables@0.2.0";
import { call, counted, size, text } from "./failures";
import { attempt, type Cell, column, type Kind, namesOf, Output } from "./output";
import { exact, Tensor } from "./tensors";

/** A column of a table. */
export type Field = host.Field;

/** Some rows of a table, held by the host. */
export class Batch {
  /** For the SDK: scripts get batches from a table. */
  constructor(readonly handle: host.Batch) {
    counted(handle);
  }

  /** How many there are. */
  get rows(): number {
    return this.handle.rows();
  }

  /** Every column by name; an empty cell is `null`. */
  columns(): Record<string, Cell[]> {
    const columns = Object.fromEntries(call(() => this.handle.columns()).map((column) => [column.name, cells(column)]));
    namesOf(columns);
    return columns;
  }

  /** One column; an empty cell is `null`. */
  column(name: string): Cell[] {
    return cells(call(() => this.handle.column(text(name))));
  }

  /** These columns as floats, rows × columns: booleans are 0 and 1, an empty cell is NaN. Fails for texts. */
  tensor(columns: string[]): Tensor {
    return new Tensor(call(() => this.handle.tensor(columns.map(text))));
  }
}

/** A CSV or Parquet file of the mini-batch, read once from its beginning to its end. */
export class Table {
  /** For the SDK: scripts call `Table.open`. */
  constructor(readonly handle: host.Table) {
    counted(handle);
  }

  /** Reads the header. In CSV, a column is of the narrowest kind that all its cells fit; in Parquet, as the file says. */
  static open(file: string): Table {
    return new Table(call(() => host.Table.open(text(file))));
  }

  /** Its columns. */
  get fields(): Field[] {
    return this.handle.fields();
  }

  /** The next rows, at most this many; `null` at the end. */
  next(rows: number): Batch | null {
    const handle = call(() => this.handle.next(size(rows)));
    return handle === null ? null : new Batch(handle);
  }

  /** All that is left, at most this many rows at a time. */
  *batches(rows: number): Generator<Batch> {
    for (let batch = this.next(rows); batch !== null; batch = this.next(rows)) yield batch;
  }
}

/**
 * Reads each file as a table, `rows` rows at a time, and keeps the columns that `score` makes of them. Those that are
 * called as the table's hold what the table's hold; `kinds` says it of others, as for `Output`. An error fails that file
 * alone, with all its rows; `Transient` ends the mini-batch, so that the host tries it again.
 */
export function byTable(
  miniBatch: readonly string[],
  rows: number,
  score: (batch: Batch) => Readonly<Record<string, readonly Cell[]>>,
  kinds: Readonly<Record<string, Kind>> = {},
): Output {
  const output = new Output([]);
  miniBatch.forEach((file, index) => {
    const { result, failed } = attempt(() => {
      const table = Table.open(file);
      const said = { ...Object.fromEntries(table.fields.map(({ name, kind }) => [name, kind])), ...kinds };
      return { said, parts: Array.from(table.batches(rows), score) };
    });
    if (failed !== undefined) output.fail(index, failed);
    else result.parts.forEach((columns) => output.append(columns, result.said));
  });
  return output;
}

/** A file that the script writes below its output folder, where the deployment gives it one. */
export class Writer {
  readonly #kinds: Readonly<Record<string, Kind>>;

  /** For the SDK: scripts call `Writer.create`. */
  constructor(readonly handle: host.Writer, kinds: Readonly<Record<string, Kind>>) {
    this.#kinds = kinds;
  }

  /**
   * `.csv`, `.jsonl` or `.parquet`, as the name ends; folders on the way are made. Replaces a file that is there. `kinds`
   * says what columns hold, as for `Output`.
   */
  static create(file: string, kinds: Readonly<Record<string, Kind>> = {}): Writer {
    return new Writer(call(() => host.Writer.create(text(file))), kinds);
  }

  /** Further rows: columns of one length, with the names and types of the first. */
  write(columns: Readonly<Record<string, readonly Cell[]>>): void {
    const typed = namesOf(columns).map((name) => column(name, columns[name]!, this.#kinds[name]));
    call(() => this.handle.write(typed));
  }

  /** Makes the file complete; without it, or after a failure, it is not there. */
  finish(): void {
    call(() => this.handle.finish());
  }
}

function cells({ cells, nulls }: contract.Column): Cell[] {
  const values: Cell[] = cells.tag === "integers" ? Array.from(cells.val as number[]) : Array.from<Cell>(cells.val);
  for (const index of nulls) values[index] = null;
  // What an empty cell stands in for is nobody's number.
  if (cells.tag === "integers") values.forEach((value) => value !== null && exact(value as number));
  return values;
}
