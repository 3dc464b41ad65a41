// Rows of plain values → the contract's typed columns.

import type * as contract from "scorehost:script/types@0.2.0";
import { Permanent, reason, size, text, Transient } from "./failures";

/** One value of a row; `null` and `undefined` are empty. */
export type Cell = boolean | number | bigint | string | null | undefined;
/** One value per column. */
export type Row = readonly Cell[];
/** What a column holds. */
export type Kind = "boolean" | "integer" | "number" | "text";
/**
 * Names of columns, or names with what they hold: `{ file: "text", class: "integer", score: "number" }`. JavaScript does
 * not tell 1 from 1.0: a column of numbers whose kind is not said holds `number`s, and one of BigInts `integer`s.
 */
export type Columns = readonly string[] | Readonly<Record<string, Kind>>;
/** A file that gave no row, by its index in the list given, and why. */
export type FailedFile = { index: number; reason: string };

/** The last part of a path: `cat.jpg` for `/input/pets/cat.jpg`. */
export function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/**
 * The names of an object's columns. JavaScript puts those that are whole numbers first, wherever they were written: among
 * others they are refused, since columns would change places.
 */
export function namesOf(columns: object): string[] {
  const names = Object.keys(columns);
  const isNumber = (name: string) => /^(0|[1-9][0-9]*)$/.test(name);
  const number = names.find(isNumber);
  if (number !== undefined && !names.every(isNumber)) {
    throw new TypeError(
      `a column named ${number} loses its place in an object; take batch.column, and new Output([names]) with push`,
    );
  }
  return names;
}

const isNames = (columns: Columns): columns is readonly string[] => Array.isArray(columns);

/** The rows of one mini-batch, and its failed files. */
export class Output {
  #names: string[];
  #kinds: (Kind | undefined)[];
  #columns: Cell[][];
  readonly #failed: FailedFile[] = [];

  /** No rows yet, with these columns. */
  constructor(columns: Columns) {
    const said: [string, Kind?][] = isNames(columns)
      ? columns.map((name) => [name])
      : namesOf(columns).map((name) => [name, columns[name]]);
    this.#names = said.map(([name]) => name);
    this.#kinds = said.map(([, kind]) => kind);
    this.#columns = said.map(() => []);
  }

  /** Adds a row. */
  push(row: Row): void {
    if (!Array.isArray(row) || row.length !== this.#columns.length) {
      throw new TypeError(`a row must be an array with one value per column, ${this.#columns.length} of them`);
    }
    row.forEach((cell: Cell, index) => this.#columns[index]!.push(cell));
  }

  /**
   * Adds rows as columns of one length, with the names of those before; the first give the output its names, and `kinds`
   * says what they hold.
   */
  append(columns: Readonly<Record<string, readonly Cell[]>>, kinds: Readonly<Record<string, Kind>> = {}): void {
    const names = namesOf(columns);
    const cells = Object.values(columns);
    if (new Set(cells.map((column) => column.length)).size > 1) throw new TypeError("the columns are not of one length");
    if (this.#names.length === 0) {
      this.#names = names;
      this.#columns = names.map(() => []);
    }
    if (names.join("\0") !== this.#names.join("\0")) {
      throw new TypeError(`the columns are ${names.join(", ")}, and were ${this.#names.join(", ")} before`);
    }
    cells.forEach((column, index) => {
      // Without a value, a column fits every kind.
      const kind = column.every((cell) => cell == null) ? undefined : kinds[names[index]!];
      this.#kinds[index] = wider(this.#kinds[index], kind);
      column.forEach((cell) => this.#columns[index]!.push(cell));
    });
  }

  /** Notes that the file at `index` of the mini-batch gave no row. */
  fail(index: number, reason: string): void {
    this.#failed.push({ index: size(index), reason: text(reason) });
  }

  /** Notes each of `failed`, as `images.load` returns them. */
  failAll(failed: readonly FailedFile[]): void {
    for (const { index, reason } of failed) this.fail(index, reason);
  }

  /** For the SDK: what the host takes. */
  toContract(): contract.Output {
    const columns = this.#names.map((name, index) => column(name, this.#columns[index]!, this.#kinds[index]));
    return { columns, failed: this.#failed };
  }
}

/**
 * One row a file, or one failure.
 *
 * Calls `predict(file)` on every file before the first `read(file, what predict gave)` makes a row of it, so that what a
 * model computes goes on meanwhile. Without `read`, what `predict` returns is the row. An error fails that file alone;
 * `Transient` ends the mini-batch, so that the host tries it again.
 */
export function byFile(miniBatch: readonly string[], columns: Columns, predict: (file: string) => Row): Output;
export function byFile<T>(
  miniBatch: readonly string[],
  columns: Columns,
  predict: (file: string) => T,
  read: (file: string, predicted: T) => Row,
): Output;
export function byFile(
  miniBatch: readonly string[],
  columns: Columns,
  predict: (file: string) => unknown,
  read: (file: string, predicted: unknown) => Row = (_, row) => row as Row,
): Output {
  const output = new Output(columns);
  const started = miniBatch.map((file): Attempt<unknown> | undefined => attempt(() => predict(file)));
  miniBatch.forEach((file, index) => {
    // Taken out, so that tensors go as their rows come.
    const { result, failed } = started[index]!;
    started[index] = undefined;
    const reason = failed ?? attempt(() => output.push(read(file, result))).failed;
    if (reason !== undefined) output.fail(index, reason);
  });
  return output;
}

type Attempt<T> = { result: T; failed?: undefined } | { result?: undefined; failed: string };

/** What `work` gives, or in words why it failed. `Transient` is not for one file, and passes. */
export function attempt<T>(work: () => T): Attempt<T> {
  try {
    return { result: work() };
  } catch (error) {
    if (error instanceof Transient) throw error;
    if (!(error instanceof Permanent)) console.error(error);
    return { failed: reason(error) };
  }
}

/** What `run` gave, as an output. Values and arrays are columns named 0, 1, …, as pandas names them. */
export function fromReturned(returned: unknown): Output {
  if (returned instanceof Output) return returned;
  if (returned === undefined || returned === null) return new Output([]);
  if (returned instanceof Promise) throw new TypeError("run must not be async: the host's functions wait by themselves");
  if (!Array.isArray(returned)) throw new TypeError(`run must return rows as an array, an Output or nothing, not ${typeof returned}`);
  const isObject = (row: unknown) => typeof row === "object" && row !== null && !Array.isArray(row);
  let names: string[];
  let rows: Row[];
  if (returned.length > 0 && returned.every(isObject)) {
    names = [...new Set(returned.flatMap((row) => namesOf(row)))];
    rows = returned.map((row) => names.map((name) => row[name]));
  } else {
    rows = returned.map((row) => (Array.isArray(row) ? row : [row]));
    names = Array.from(rows[0] ?? [], (_, index) => String(index));
  }
  const output = new Output(names);
  rows.forEach((row) => output.push(row));
  return output;
}

/** What holds both: whole numbers among numbers are numbers. Others do not mix, and are refused by their cells. */
function wider(one: Kind | undefined, other: Kind | undefined): Kind | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one === "integer" && other === "number" ? other : one;
}

/** One typed column, of the kind that is said, or that its values have. */
export function column(name: string, cells: readonly Cell[], said?: Kind): contract.Column {
  const nulls: number[] = [];
  const types = new Set<string>();
  cells.forEach((cell, index) => {
    if (cell === null || cell === undefined) nulls.push(index);
    else types.add(typeof cell);
  });
  const kind = said ?? inferred(name, types);
  const filled = <T>(empty: T, convert: (cell: Cell) => T) => cells.map((cell) => (cell == null ? empty : convert(cell)));
  const column = (cells: contract.Cells): contract.Column => ({ name: text(name), cells, nulls: Uint32Array.from(nulls) });
  const refuse = (cell: Cell): never => {
    throw new Permanent(`column \`${name}\` holds ${KINDS[kind]}, not \`${cell}\``);
  };
  switch (kind) {
    case "boolean":
      return column({ tag: "booleans", val: filled(false, (cell) => (typeof cell === "boolean" ? cell : refuse(cell))) });
    case "integer": {
      const integer = (cell: Cell) => {
        if (typeof cell === "bigint" && BigInt.asIntN(64, cell) === cell) return cell;
        return Number.isSafeInteger(cell) ? BigInt(cell as number) : refuse(cell);
      };
      return column({ tag: "integers", val: BigInt64Array.from(filled(0n, integer)) });
    }
    case "number": {
      const number = (cell: Cell) => (typeof cell === "number" || typeof cell === "bigint" ? Number(cell) : refuse(cell));
      return column({ tag: "numbers", val: Float64Array.from(filled(0, number)) });
    }
    case "text":
      return column({ tag: "texts", val: filled("", (cell) => (typeof cell === "string" ? text(cell) : refuse(cell))) });
    default:
      throw new Permanent(`column \`${name}\` is said to hold \`${kind}\`, which is not boolean, integer, number or text`);
  }
}

/** How kinds are called in errors. */
const KINDS: Record<Kind, string> = { boolean: "booleans", integer: "whole numbers", number: "numbers", text: "texts" };

const OF_TYPE: Record<string, Kind> = { boolean: "boolean", bigint: "integer", number: "number", string: "text" };

/** The kind of a column from the types of its values: BigInts among numbers become numbers, other mixtures are refused. */
function inferred(name: string, types: Set<string>): Kind {
  for (const type of types) {
    if (!(type in OF_TYPE)) throw new Permanent(`column \`${name}\` holds a value of type \`${type}\``);
  }
  const kinds = [...types].map((type) => OF_TYPE[type]!);
  if (kinds.length === 0) return "integer";
  if (kinds.every((kind) => kind === "integer" || kind === "number")) return kinds.includes("number") ? "number" : "integer";
  if (kinds.length > 1) throw new Permanent(`column \`${name}\` mixes ${kinds.map((kind) => KINDS[kind]).sort().join(" and ")}`);
  return kinds[0]!;
}
