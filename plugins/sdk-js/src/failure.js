// How a step fails, and what anything that was thrown means for the attempt that follows.
//
// The engine decides by the kind and never reads meaning out of the message, which is for people. To authors a failure is
// an Error; across the boundary goes the plain variant that it stands for, as an Error there is a breakdown.

/** How a step fails. Made by `invalidInput`, `transient` and `permanent`. */
export class Failure extends Error {
  constructor(kind, message, { details, retryAfterMs, cause } = {}) {
    super(message, { cause });
    this.name = "Failure";
    /** `invalid-input`, `transient` or `permanent`. */
    this.kind = kind;
    /** Facts for later steps and for people, as an object; `undefined` if there are none. */
    this.details = details === undefined ? undefined : asObject(details);
    /** Only for a transient failure: not sooner than this. */
    this.retryAfterMs = retryAfterMs;
  }
}

/** The boundary's `failure`. */
export function asVariant({ kind, message, details, retryAfterMs }) {
  return { tag: kind, val: { message, details: details === undefined ? null : JSON.stringify(details), retryAfterMs: retryAfterMs ?? null } };
}

/** The failure of a variant. */
export function ofVariant({ tag, val: { message, details, retryAfterMs } }) {
  return new Failure(tag, message, { details: details === null ? undefined : JSON.parse(details), retryAfterMs: retryAfterMs ?? undefined });
}

/** The input passed its schema and is wrong all the same: say which field, and what it should be. Never retried. */
export const invalidInput = (message, options) => new Failure("invalid-input", message, options);

/** The problem may be gone when the engine tries again. `{ retryAfterMs }` asks it not to do so sooner. */
export const transient = (message, options) => new Failure("transient", message, options);

/** Trying again will not help. */
export const permanent = (message, options) => new Failure("permanent", message, options);

/** What an exception means: a failure is what it says, everything else is permanent, with its stack for the author. */
export function asFailure(thrown) {
  if (thrown instanceof Failure) return thrown;
  if (thrown?.payload?.tag === "refused") {
    const { capability, wanted, hint } = thrown.payload.val;
    // By the contract of `types.wit`: else another key took it away, and no line of the workflow would allow it.
    const what = hint.startsWith("grant = ") ? `is not granted to this step (${capability}); to allow it, set in the step` : `is kept from this step (${capability})`;
    return permanent(`\`${wanted}\` ${what}: ${hint}`, { details: { refused: thrown.payload.val } });
  }
  return permanent(explain(thrown), { cause: thrown });
}

// How many causes of an exception are followed. 8: more layers than a step has, and a cause may lead back to itself.
const CAUSES_MAX = 8;

/** An exception as text: what it says, where it was thrown, and what caused it, `…` after 8 causes. */
export function explain(thrown) {
  const texts = [];
  for (let error = thrown; texts.length <= CAUSES_MAX; error = error.cause) {
    texts.push(explainAlone(error));
    if (!(error instanceof Error) || error.cause === undefined) return texts.join("\ncaused by ");
  }
  return [...texts, "…"].join("\ncaused by ");
}

function explainAlone(thrown) {
  if (!(thrown instanceof Error)) return `the step threw ${describe(thrown)}, which is no Error and has no stack`;
  // V8 repeats the message at the head of a stack, QuickJS does not. What is below the step's own code is the same each time.
  const frames = (thrown.stack ?? "").split("\n").filter((line) => line.trimStart().startsWith("at "));
  const end = frames.findIndex((line) => /(sdk-js|downbeat-sdk)\/src\/step\.js:/.test(line));
  // An error of the host is its variant, and its message does not say which.
  const { payload } = thrown;
  const message = payload === undefined ? `${thrown.name}: ${thrown.message}` : `${thrown.name}: the host said ${describe(payload)}`;
  return [message, ...frames.slice(0, end === -1 ? undefined : end)].join("\n");
}

function describe(value) {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

// Like the SDK for Rust: what is no object goes under `value`, and a failure never gets lost over its details.
function asObject(details) {
  try {
    const isObject = typeof details === "object" && details !== null && !Array.isArray(details);
    return JSON.parse(JSON.stringify(isObject ? details : { value: details }));
  } catch (error) {
    return { lost: String(error) };
  }
}
