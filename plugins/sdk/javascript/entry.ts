// What the component exports, around the author's script. The build puts the script in the place of "scorehost:author".
//
// Every error ends here: it becomes the contract's failure, and its stack is in the log.
// `run` is imported by name, so that a script without it does not build; `init` may be missing.

import "./console";
import { run } from "scorehost:author";
import type { Failure as Contract, Output as Returned } from "scorehost:script/types@0.2.0";
import * as author from "scorehost:author";
import { miniBatch as miniBatchIndex } from "./context";
import { Failure, reason, text, Transient } from "./failures";
import { fromReturned } from "./output";

/** The contract's `script`. */
export const script = {
  init(): void {
    guarded(() => {
      const returned: unknown = author.init?.();
      if (returned instanceof Promise) throw new TypeError("init must not be async: the host's functions wait by themselves");
    });
  },

  run(miniBatch: string[]): Returned {
    Math.random = seeded(miniBatchIndex());
    return guarded(() => fromReturned(run(miniBatch)).toContract());
  },
};

function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Failure)) console.error(error);
    const failure: Contract = { tag: error instanceof Transient ? "transient" : "permanent", val: text(reason(error)) };
    throw failure;
  }
}

/**
 * A generator of numbers in [0, 1) for one mini-batch (mulberry32): a retry on another instance must draw the same, and
 * the engine's own starts where the build left it.
 */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
