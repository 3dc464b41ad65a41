// Where and when this call runs; and the deployment's settings for the script.

import * as host from "scorehost:script/context@0.2.0";
import { Permanent, text } from "./failures";

/** The job's name. */
export const job = (): string => host.job();

/** The mini-batch's place in the plan, from 0. */
export const miniBatch = (): number => host.miniBatch();

/** 1 for the first attempt. */
export const attempt = (): number => host.attempt();

/** The deployment's name. */
export const deployment = (): string => host.deployment();

/** Milliseconds until this call is stopped. */
export const remainingMs = (): number => host.remainingMs();

/** Ends this instance after the current call, which keeps its result. */
export const retire = (): void => host.retire();

/** The deployment's tag `key`, of the type that `fallback` has, or `fallback` where it is absent. */
export function setting(key: string): string | undefined;
export function setting(key: string, fallback: number): number;
export function setting(key: string, fallback: boolean): boolean;
export function setting(key: string, fallback: string): string;
export function setting(key: string, fallback?: number | boolean | string): number | boolean | string | undefined {
  const found = host.setting(text(key));
  if (found === null) return fallback;
  if (typeof fallback === "boolean") {
    if (found === "true" || found === "false") return found === "true";
    throw new Permanent(`setting \`${key}\` is \`${found}\`, which is neither \`true\` nor \`false\``);
  }
  if (typeof fallback === "number") {
    const number = found.trim() === "" ? NaN : Number(found);
    if (!Number.isNaN(number)) return number;
    throw new Permanent(`setting \`${key}\` is \`${found}\`, which is not a number`);
  }
  return found;
}
