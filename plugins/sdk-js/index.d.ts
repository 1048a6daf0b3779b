/** A value that JSON can say. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

/** For whom this attempt runs. Nothing in it changes what the step should compute. */
export interface Context {
  run: string;
  workflow: string;
  step: string;
  /** Counts from 1. */
  attempt: number;
  /** The same for every attempt of this step in this run: an attempt is executed at least once. */
  idempotencyKey: string;
  timeoutMs: number | null;
}

export interface Definition<Input, Output> {
  /** Lower case words joined by `-`. */
  name: string;
  /** The step's own version (semver). */
  version: string;
  /** One sentence. */
  summary: string;
  /** Capabilities that the step asks for, each with the reason. */
  wants?: Record<string, string>;
  /** JSON Schema of the input: an object. */
  input: object;
  /** JSON Schema of the output: an object. */
  output: object;
  /** Carries out one attempt. The input is valid under its schema, the output is checked by its own. */
  run(input: Input, context: Context): Output;
}

/** The interface `downbeat:step/step`. */
export interface Step {
  describe(): object;
  run(context: Context, input: string): string;
}

/** A step, to be exported as `step`. */
export function defineStep<Input = any, Output = Json>(definition: Definition<Input, Output>): Step;

export interface FailureOptions {
  /** Facts for later steps and for people: `${steps.NAME.failure.details}`. */
  details?: object;
  /** The exception that led to it. */
  cause?: unknown;
}

/** How a step fails; any other exception is a permanent failure with its stack. */
export class Failure extends Error {
  readonly kind: "invalid-input" | "transient" | "permanent";
  readonly details: object | undefined;
  readonly retryAfterMs: number | undefined;
}

/** The input passed its schema and is wrong all the same. Never retried. */
export function invalidInput(message: string, options?: FailureOptions): Failure;
/** Trying again may help, but not sooner than after `retryAfterMs`. */
export function transient(message: string, options?: FailureOptions & { retryAfterMs?: number }): Failure;
/** Trying again will not help. */
export function permanent(message: string, options?: FailureOptions): Failure;

type Line = (...parts: unknown[]) => void;
/** Lines that are kept with the attempt; `console.log` and its kin write there, too. */
export const log: { trace: Line; debug: Line; info: Line; warn: Line; error: Line };
/** Says that `done` of `total` is done. */
export function progress(done: number, total?: number, message?: string): void;
