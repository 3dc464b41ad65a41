// Why a call failed, in the terms on which a retry is decided; and every call of the host.

import type { Failure as Contract } from "scorehost:script/types@0.2.0";

declare const __cqjs: { runGc(): void };

/** What the host says when a call fails, and what a script throws to say so itself. */
export class Failure extends Error {}

/** The same call would fail again. */
export class Permanent extends Failure {}

/** Worth another attempt: something was busy or missing for a while. */
export class Transient extends Failure {}

/** Calls the host: its declared failures become errors. */
export function call<T>(work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    const failure = (thrown as { payload?: Contract }).payload;
    if (failure === undefined) throw thrown;
    throw failure.tag === "transient" ? new Transient(failure.val) : new Permanent(failure.val);
  }
}

/** An error in one line: a failure's own words, and with its type what was not meant as one. */
export function reason(error: unknown): string {
  if (error instanceof Failure) return error.message;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

// Handles that a collection lets go at once; far below what an instance may hold.
const HANDLES = 256;
let made = 0;

/**
 * Notes that a call made a handle. What a script no longer refers to is handed back only when the engine collects or
 * the call ends, and one mini-batch may make more pictures and tensors than an instance may hold.
 */
export function counted<T>(handle: T): T {
  made += 1;
  if (made % HANDLES === 0) __cqjs.runGc();
  return handle;
}

/** Checks a whole number for the host, which would end the instance over another. */
export function size(value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0x7fffffff) {
    throw new RangeError(`${value} is not a whole number from 0 to ${0x7fffffff}`);
  }
  return value;
}

/** Text that UTF-8 can hold: what JavaScript allows beyond it becomes U+FFFD. */
export function text(value: unknown): string {
  return String(value).toWellFormed();
}
