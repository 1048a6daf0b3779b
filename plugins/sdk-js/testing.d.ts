import type { Context, Step } from "downbeat-sdk";

/** Runs `step` on `input` and gives its output; throws the `Failure`. */
export function runStep(step: Step, input: unknown, context?: Partial<Context>): any;
/** What `step` says of itself, with its schemas as values. */
export function describeStep(step: Step): {
  name: string;
  version: string;
  summary: string;
  wants: { capability: string; reason: string }[];
  input: any;
  output: any;
};
/** What the last attempt logged: `level: message`. */
export function logged(): string[];
/** The progress that the last attempt reported. */
export function reported(): { done: number; total: number | null; message: string }[];
