// `console`, which the engine does not have: every line goes to the mini-batch's log, with its level.

import * as log from "scorehost:script/log@0.2.0";
import { text } from "./failures";

type Level = Parameters<typeof log.write>[0];

const shown = (value: unknown): string => {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value.name}: ${value.message}\n${value.stack ?? ""}`.trimEnd();
  if (typeof value !== "object" || value === null) return String(value);
  try {
    return JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `${part}n` : part)) ?? String(value);
  } catch {
    return String(value); // it contains itself
  }
};

const at = (level: Level) => (...values: unknown[]) => log.write(level, text(values.map(shown).join(" ")));

/** As scripts see it. */
export const console = { debug: at("debug"), log: at("info"), info: at("info"), warn: at("warning"), error: at("error") };

declare global {
  var console: typeof import("./console").console;
}

globalThis.console = console;
