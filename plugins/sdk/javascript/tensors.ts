// Tensors live on the host or on its GPU. A tensor may stand for a result that is still being computed: what reads data
// waits for it, and throws its failure.

import * as host from "scorehost:script/tensors@0.2.0";
import { call, counted, Permanent, size } from "./failures";

/** What a tensor holds. */
export type Element = host.Element;

/** The largest entries of each row, row after row: `width` of them a row, as many indices as scores. */
export type Largest = { width: number; indices: number[]; scores: number[] };

/** A handle on numbers of some shape. */
export class Tensor {
  /** For the SDK: scripts get tensors from pictures, models, tables and numbers. */
  constructor(readonly handle: host.Tensor) {
    counted(handle);
  }

  /** Row-major data of the given shape; fails if their sizes differ. */
  static fromFloats(shape: number[], data: ArrayLike<number>): Tensor {
    return new Tensor(call(() => host.Tensor.fromFloats(shape.map(size), Float32Array.from(data))));
  }

  /** Row-major data of the given shape; fails if their sizes differ. */
  static fromBytes(shape: number[], data: ArrayLike<number>): Tensor {
    return new Tensor(call(() => host.Tensor.fromBytes(shape.map(size), Uint8Array.from(data))));
  }

  /** Row-major data of the given shape; fails if their sizes differ. */
  static fromIntegers(shape: number[], data: ArrayLike<number | bigint>): Tensor {
    const integers = BigInt64Array.from(data as ArrayLike<bigint>, BigInt);
    return new Tensor(call(() => host.Tensor.fromIntegers(shape.map(size), integers)));
  }

  /** The size of each dimension, outermost first. */
  get shape(): number[] {
    return call(() => this.handle.shape());
  }

  /** What it holds. */
  get element(): Element {
    return call(() => this.handle.element());
  }

  /** All of the data, row-major, as floats. */
  floats(): number[] {
    return call(() => this.handle.floats()).map(float32);
  }

  /** All of the data, row-major, as integers; fails for floats, and for integers past 2⁵³, which no number holds. */
  integers(): number[] {
    return call(() => this.handle.integers()).map(exact);
  }

  /** Rows `start` to `start + count` along the first dimension; a view, not a copy. */
  slice(start: number, count: number): Tensor {
    return new Tensor(call(() => this.handle.slice(size(start), size(count))));
  }

  /** Softmax along the last dimension. */
  softmax(): Tensor {
    return new Tensor(this.handle.softmax());
  }

  /** For each row, the `k` largest entries of the last dimension, largest first; of equal ones, the lower index. */
  top(k: number): Largest {
    const largest = call(() => this.handle.top(size(k)));
    return { ...largest, scores: largest.scores.map(float32) };
  }

  /** The largest entry of each row, as index and score. */
  bestOfRows(): [number, number][] {
    const { indices, scores } = this.top(1);
    return indices.map((index, row) => [index, scores[row]!]);
  }

  /** The largest entry of the first row, as index and score. */
  best(): [number, number] {
    const best = this.bestOfRows()[0];
    if (best === undefined) throw new Permanent("the model gave no scores");
    return best;
  }

  /** Hands it back before the engine does, for `using`. */
  [Symbol.dispose](): void {
    this.handle[Symbol.dispose]();
  }
}

/** What the host knows a tensor by; it would end the instance over anything else. */
export function handleOf(tensor: Tensor): host.Tensor {
  if (!(tensor instanceof Tensor)) throw new TypeError("a Tensor is wanted");
  return tensor.handle;
}

/** Tensors of one shape, stacked along a new first dimension. */
export function stack(parts: Tensor[]): Tensor {
  return new Tensor(call(() => host.stack(parts.map(handleOf))));
}

/** Tensors joined along their first dimension. */
export function concatenate(parts: Tensor[]): Tensor {
  return new Tensor(call(() => host.concatenate(parts.map(handleOf))));
}

/** An integer of the host as a number, if it is one: past 2⁵³ the engine has rounded it. */
export function exact(integer: number): number {
  if (!Number.isSafeInteger(integer)) {
    throw new Permanent(`an integer near ${integer} is past 2^53, which a JavaScript number cannot hold`);
  }
  return integer;
}

/** Powers of ten that are exact. */
const POWERS = Array.from({ length: 23 }, (_, power) => 10 ** power);

/**
 * The number whose shortest decimal form is that of `value` in 32 bits, so that 0.1 is written `0.1`, as numpy and the
 * other languages write it. Its nearest 32-bit float is the same one. What is read of tensors comes this way.
 */
export function float32(value: number): number {
  const single = Math.fround(value);
  const size = Math.abs(single);
  const decade = Math.floor(Math.log10(size));
  // Six digits are never too many, but for numbers below the normal ones. Half a digit goes up, as in the other languages;
  // the product is exact, and so is the quotient as a parsed text would be.
  for (let digits = 6; digits <= 9; digits++) {
    const scale = POWERS[digits - 1 - decade];
    if (scale === undefined) break;
    const short = Math.round(size * scale) / scale;
    if (Math.fround(short) === size) return single < 0 ? -short : short;
  }
  for (let digits = size >= 2 ** -126 ? 6 : 1; digits < 9; digits++) {
    const short = Number(single.toPrecision(digits));
    if (Math.fround(short) === single) return short;
  }
  return Number(single.toPrecision(9));
}
