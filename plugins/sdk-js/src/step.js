// A step from its definition: an object with a function that takes a value and gives a value, as the boundary wants it.
//
// A wrong definition throws when the module is loaded, which is when the component is built. At run time nothing but
// failures leaves here, except when the interpreter itself is at its end: that is the engine's to tell apart.

import { asFailure, asVariant, explain, invalidInput, permanent } from "./failure.js";
import { log } from "./log.js";
import { checkSchema, mismatch } from "./schema.js";
import { unfit } from "./value.js";

/** The interface `downbeat:step/step`, to be exported as `step`. */
export function defineStep({ name, version, summary, wants = {}, input, output, run, ...unknown }) {
  for (const [key, value] of Object.entries({ name, version, summary })) {
    if (typeof value !== "string" || value === "") throw new TypeError(`defineStep: \`${key}\` must be a text`);
  }
  if (typeof run !== "function") throw new TypeError("defineStep: `run` must be a function");
  for (const key of Object.keys(unknown)) throw new TypeError(`defineStep: there is no \`${key}\``);
  checkSchema(input, "input");
  checkSchema(output, "output");

  const description = {
    name,
    version,
    summary,
    inputSchema: JSON.stringify(input),
    outputSchema: JSON.stringify(output),
    wants: Object.entries(wants).map(([capability, reason]) => ({ capability, reason })),
  };

  function attempt(context, text) {
    const taken = JSON.parse(text);
    const wrong = mismatch(input, taken);
    if (wrong) throw invalidInput(`the input is not what the step takes: ${wrong}`);
    const given = run(taken, context);
    if (typeof given?.then === "function") {
      throw permanent(
        "`run` returned a promise, and a step is synchronous: calls of the host return when they are done, so there is nothing to await",
      );
    }
    const broken = unfit(given) ?? mismatch(output, given);
    if (broken) throw permanent(`the output is not what the step promises: ${broken}`);
    return JSON.stringify(given);
  }

  return {
    describe: () => description,
    run(context, text) {
      try {
        return attempt(context, text);
      } catch (thrown) {
        if (isTheInterpreters(thrown)) throw thrown;
        throw asVariant(asFailure(thrown));
      }
    },
  };
}

// Out of memory, out of stack: thrown on, it ends the instance, and the engine reports the limit that was reached. Where it
// happened is logged, if there is room left for that.
function isTheInterpreters(thrown) {
  if (typeof InternalError === "undefined" || !(thrown instanceof InternalError)) return false;
  try {
    log.error(explain(thrown));
  } catch {
    // No room left.
  }
  return true;
}
