import assert from "node:assert/strict";
import test from "node:test";

import { defineStep, Failure, invalidInput, log, permanent, progress, transient } from "downbeat-sdk";
import { describeStep, logged, reported, runStep } from "downbeat-sdk/testing";

const object = (properties, required = Object.keys(properties)) => ({ type: "object", properties, required, additionalProperties: false });

/** A step that does nothing but `run`. */
const stepOf = (run, more = {}) =>
  defineStep({ name: "tried", version: "1.2.3", summary: "Is tried.", input: { type: "object" }, output: {}, run, ...more });

/** What the step failed with. */
function failureOf(step, input = {}) {
  try {
    runStep(step, input);
  } catch (failure) {
    assert.ok(failure instanceof Failure, `not a failure: ${failure}`);
    return failure;
  }
  throw new Error("it succeeded");
}

test("a value in becomes a value out, a log line and progress", () => {
  const step = stepOf(({ name }) => {
    log.info("greeting", name, { politely: true });
    progress(1, 2, "half");
    progress(2);
    return { greeting: `Hello, ${name}!` };
  });
  assert.deepEqual(runStep(step, { name: "Ada" }), { greeting: "Hello, Ada!" });
  assert.deepEqual(logged(), ['info: greeting Ada {"politely":true}']);
  assert.deepEqual(reported(), [
    { done: 1, total: 2, message: "half" },
    { done: 2, total: null, message: "" },
  ]);
});

test("the context is handed to the step", () => {
  const step = stepOf((_, { attempt, idempotencyKey }) => `${attempt} ${idempotencyKey}`);
  assert.equal(runStep(step, {}, { attempt: 3, idempotencyKey: "k" }), "3 k");
});

test("a step is described by its definition", () => {
  const step = stepOf(() => null, { wants: { process: "runs cargo" }, input: object({ name: { type: "string" } }) });
  assert.deepEqual(describeStep(step), {
    name: "tried",
    version: "1.2.3",
    summary: "Is tried.",
    wants: [{ capability: "process", reason: "runs cargo" }],
    input: object({ name: { type: "string" } }),
    output: {},
  });
});

test("a wrong definition is an error when the step is built", () => {
  const cases = [
    [{ name: "" }, /`name` must be a text/],
    [{ run: undefined }, /`run` must be a function/],
    [{ input: undefined }, /`input` must be a JSON Schema/],
    [{ inputs: {} }, /there is no `inputs`/],
    [{ output: { properties: { x: { dependentRequired: {} } } } }, /`output\.properties\.x` uses `dependentRequired`/],
    [{ input: { properties: { x: { type: "int" } } } }, /`input\.properties\.x\.type` is "int"; types are null, boolean, string, /],
    [{ input: { type: ["string", "toString"] } }, /`input\.type` is "toString"; types are /],
    [{ input: { type: undefined } }, /`input\.type` is undefined; types are /],
    [{ output: { items: { pattern: "a(" } } }, /`output\.items\.pattern` is no regular expression: .*a\(/],
    [{ output: { pattern: 1 } }, /`output\.pattern` must be a text/],
  ];
  for (const [change, message] of cases) assert.throws(() => stepOf(() => null, change), message);
});

test("an input that is not what the schema takes never reaches the step", () => {
  const step = stepOf(() => assert.fail("it was run"), { input: object({ list: { type: "array", items: { type: "integer" } } }) });
  const failure = failureOf(step, { list: [1, 2.5] });
  assert.equal(failure.kind, "invalid-input");
  assert.equal(failure.message, "the input is not what the step takes: list[1] must be integer, and is number");
});

test("a failure keeps its kind, details and delay across the boundary", () => {
  const crossed = (failure) => {
    const { kind, message, details, retryAfterMs } = failureOf(stepOf(() => { throw failure; }));
    return { kind, message, details, retryAfterMs };
  };
  const nothing = { details: undefined, retryAfterMs: undefined };
  assert.deepEqual(crossed(invalidInput("no")), { ...nothing, kind: "invalid-input", message: "no" });
  assert.deepEqual(crossed(transient("busy", { retryAfterMs: 50 })), { ...nothing, kind: "transient", message: "busy", retryAfterMs: 50 });
  assert.deepEqual(crossed(permanent("bad", { details: { at: 1 } })), { ...nothing, kind: "permanent", message: "bad", details: { at: 1 } });
});

test("what crosses the boundary is a plain variant and no Error", () => {
  const step = stepOf(() => { throw transient("busy"); });
  assert.throws(() => step.run({}, "{}"), (thrown) => {
    assert.deepEqual(thrown, { tag: "transient", val: { message: "busy", details: null, retryAfterMs: null } });
    return true;
  });
});

test("details that are no object are kept under a key, and what is no JSON is said so", () => {
  assert.deepEqual(permanent("x", { details: [1] }).details, { value: [1] });
  assert.match(permanent("x", { details: { big: 1n } }).details.lost, /BigInt/);
});

test("any other exception is a permanent failure with its stack and its causes", () => {
  const failure = failureOf(stepOf(function guilty() {
    throw new TypeError("that went wrong", { cause: new Error("because of this") });
  }));
  assert.equal(failure.kind, "permanent");
  const [first, second] = failure.message.split("\n");
  assert.equal(first, "TypeError: that went wrong");
  assert.match(second, /^    at .*guilty .*step\.test\.js:\d+:\d+/);
  assert.match(failure.message, /\ncaused by Error: because of this\n    at /);
});

test("eight causes are shown, also of an exception that is its own cause", () => {
  const causes = (failure) => failure.message.split("\n").filter((line) => line.startsWith("caused by "));
  const chain = (length) => {
    let error = new Error("cause 1 from the end");
    for (let i = 2; i <= length; i += 1) error = new Error(`cause ${i} from the end`, { cause: error });
    return stepOf(() => { throw new TypeError("that went wrong", { cause: error }); });
  };
  assert.equal(causes(failureOf(chain(8))).at(-1), "caused by Error: cause 1 from the end");
  assert.deepEqual(causes(failureOf(chain(9))).slice(7), ["caused by Error: cause 2 from the end", "caused by …"]);

  const circle = new Error("again");
  circle.cause = circle;
  const shown = causes(failureOf(stepOf(() => { throw circle; })));
  assert.deepEqual(shown, [...Array(8).fill("caused by Error: again"), "caused by …"]);
});

test("what is thrown and no error is shown as it is", () => {
  const circle = {};
  circle.self = circle;
  for (const [thrown, shown] of [["text", '"text"'], [undefined, "undefined"], [circle, "[object Object]"]]) {
    const failure = failureOf(stepOf(() => { throw thrown; }));
    assert.equal(failure.message, `the step threw ${shown}, which is no Error and has no stack`);
  }
});

test("a refused call says how to allow it", () => {
  const refusal = { capability: "process", wanted: "cargo", hint: 'grant = { process = ["cargo"] }' };
  const failure = failureOf(stepOf(() => { throw Object.assign(new Error("[object Object]"), { payload: { tag: "refused", val: refusal } }); }));
  assert.equal(failure.message, '`cargo` is not granted to this step (process); to allow it, set in the step: grant = { process = ["cargo"] }');
  assert.deepEqual(failure.details, { refused: refusal });
});

test("a call that another key refused tells of no line to write", () => {
  const refusal = { capability: "process", wanted: "cargo", hint: "granted, and taken away by rule `tools` of policy.toml:3" };
  const failure = failureOf(stepOf(() => { throw Object.assign(new Error("[object Object]"), { payload: { tag: "refused", val: refusal } }); }));
  assert.equal(failure.message, "`cargo` is kept from this step (process): granted, and taken away by rule `tools` of policy.toml:3");
});

test("what else the host said is shown", () => {
  const failure = failureOf(stepOf(() => { throw Object.assign(new Error("[object Object]"), { payload: { tag: "not-found", val: "cargo" } }); }));
  assert.equal(failure.message.split("\n")[0], 'Error: the host said {"tag":"not-found","val":"cargo"}');
});

test("a promise is refused with the reason", () => {
  assert.match(failureOf(stepOf(async () => ({}))).message, /`run` returned a promise, and a step is synchronous/);
});

test("an output that JSON can't say is a failure that names the place", () => {
  const cases = [
    [{ score: [0, Number.NaN] }, "score[1] is NaN, which JSON can't say"],
    [undefined, "the whole is undefined, which JSON can't say"],
    [{ big: 1n }, "big is a bigint, which JSON can't say"],
    [{ text: "\ud800" }, "text has half a surrogate pair in it"],
    [{ f: () => 1 }, "f is a function, which JSON can't say"],
  ];
  for (const [output, fault] of cases) {
    assert.equal(failureOf(stepOf(() => output)).message, `the output is not what the step promises: ${fault}`);
  }
  assert.deepEqual(runStep(stepOf(() => ({ none: undefined, at: new Date(0) })), {}), { at: "1970-01-01T00:00:00.000Z" });
});

test("an output that is not what the schema promises is a failure", () => {
  const step = stepOf(() => ({ score: "high" }), { output: object({ score: { type: "number" } }) });
  assert.equal(failureOf(step).message, "the output is not what the step promises: score must be number, and is string");
});
