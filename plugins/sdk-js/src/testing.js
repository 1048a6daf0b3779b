// For an author's tests on Node.js: runs a step as the engine does, from JSON to JSON, and shows what it told the host.

import { lines, reports } from "#host";

import { ofVariant } from "./failure.js";

const CONTEXT = { run: "1", workflow: "test", step: "step", attempt: 1, idempotencyKey: "1/step", timeoutMs: null };

/** Runs `step` on `input` and gives its output; throws the `Failure`. What earlier attempts told the host is forgotten. */
export function runStep(step, input, context = {}) {
  lines.length = reports.length = 0;
  let output;
  try {
    output = step.run({ ...CONTEXT, ...context }, JSON.stringify(input));
  } catch (variant) {
    throw ofVariant(variant);
  }
  return JSON.parse(output);
}

/** What `step` says of itself, with its schemas as values. */
export function describeStep(step) {
  const { inputSchema, outputSchema, ...rest } = step.describe();
  return { ...rest, input: JSON.parse(inputSchema), output: JSON.parse(outputSchema) };
}

/** What the last attempt logged: `level: message`. */
export const logged = () => [...lines];

/** The progress that the last attempt reported. */
export const reported = () => [...reports];
