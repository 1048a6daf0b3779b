// A guest that misbehaves on request. `{"do": "…"}` picks how; what it gets to see of the world comes back as its output,
// so that a test can assert it.
//
// What begins with `raw-` goes past the SDK, to the plain boundary.

import { defineStep, invalidInput, permanent, progress, transient } from "downbeat-sdk";
import { put } from "downbeat:step/artifacts@0.1.0";
import { run as runProgram } from "downbeat:step/process@0.1.0";

const MIB = 1 << 20;

const saw = (what) => ({ saw: what });

const acts = {
  // Well-behaved.
  echo: (input) => ({ do: "echo", input }),
  context: (_, context) => saw(context),
  progress: ({ count = 3 }) => {
    for (let done = 0; done <= count; done++) progress(done, count, "as requested");
    return saw(null);
  },

  // Failures.
  "fail-invalid": ({ text = "as requested" }) => {
    throw invalidInput(text);
  },
  "fail-permanent": ({ text = "as requested" }) => {
    throw permanent(text, { details: { requested: true } });
  },
  "fail-transient": ({ text = "as requested", "retry-after-ms": retryAfterMs }) => {
    throw transient(text, { retryAfterMs });
  },
  "fail-until": ({ attempt = 2 }, context) => {
    if (context.attempt < attempt) throw transient(`attempt ${context.attempt} is too early`);
    return saw(context.attempt);
  },

  // Mistakes.
  throw: ({ text = "as requested" }) => {
    function innermost() {
      throw new TypeError(text);
    }
    innermost();
  },
  "throw-caused": () => {
    try {
      null.field;
    } catch (cause) {
      throw new Error("it did not work out", { cause });
    }
  },
  "throw-text": ({ text = "as requested" }) => {
    throw text;
  },
  promise: async () => saw("never"),
  reject: async () => {
    throw new Error("rejected");
  },
  undefined: () => undefined,
  nan: () => saw({ deep: [0, Number.NaN] }),
  surrogate: () => saw("\ud800"),
  "wrong-output": () => ({ saw: 1, unpromised: true }),

  // Without end.
  loop: () => {
    for (;;);
  },
  hoard: () => {
    const hoard = [];
    for (;;) hoard.push(new Uint8Array(MIB).fill(1));
  },
  stack: () => {
    const deeper = (depth) => deeper(depth + 1) + 1;
    return saw(deeper(0));
  },

  // Too much said.
  "log-flood": ({ text = "again and again", count = 20_000 }) => {
    for (let line = 0; line < count; line++) console.log(`line ${line}: ${text}`);
    return saw(null);
  },
  "big-output": ({ bytes = 2 * MIB }) => saw("x".repeat(bytes)),

  // What it sees.
  clock: () => saw([new Date().toISOString(), Date.now(), Date(), performance.now(), new Date(5).getTime(), new Date() instanceof Date]),
  random: () => saw([Math.random(), Math.random(), Math.random()]),
  env: () => saw(["process", "require", "fetch", "setTimeout", "WebAssembly", "Deno", "std", "os"].filter((name) => name in globalThis)),

  // What it reaches.
  process: ({ program }) => {
    const command = { program, arguments: [], environment: [], workingDirectory: null, stdin: [], timeoutMs: null, logOutput: false };
    return saw(String.fromCharCode(...runProgram(command).stdout));
  },
  put: ({ text = "as requested" }) => saw(put(Uint8Array.from(text, (character) => character.charCodeAt(0)))),
};

const raw = {
  "raw-throw": () => {
    throw new TypeError("as requested");
  },
  "raw-typed": () => {
    throw { tag: "permanent", val: { message: "as requested", details: '{"requested":true}', retryAfterMs: null } };
  },
  "raw-reject": async () => {
    throw new Error("as requested");
  },
  "raw-undefined": () => undefined,
  "raw-bad-json": () => "{ this is no JSON",
  "raw-surrogate": () => '{"saw":"\ud800"}',
};

const step = defineStep({
  name: "rogue-js",
  version: "0.1.0",
  summary: "Misbehaves on request, in JavaScript.",
  wants: { artifacts: "tries it", process: "tries it" },
  input: {
    type: "object",
    properties: {
      do: { enum: [...Object.keys(acts), ...Object.keys(raw)], description: "How to (mis)behave." },
      text: { type: "string" },
      count: { type: "integer", minimum: 0 },
      bytes: { type: "integer", minimum: 0 },
      attempt: { type: "integer", minimum: 1 },
      "retry-after-ms": { type: "integer", minimum: 0 },
      program: { type: "string" },
    },
    required: ["do"],
  },
  output: {
    type: "object",
    properties: { do: { const: "echo" }, input: { type: "object" }, saw: {} },
    additionalProperties: false,
  },
  run: (input, context) => acts[input.do](input, context),
});

const pastTheSdk = {
  describe: step.describe,
  run(context, text) {
    const act = raw[JSON.parse(text).do];
    return act ? act() : step.run(context, text);
  },
};

export { pastTheSdk as step };
