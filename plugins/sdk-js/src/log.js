// Lines for people, and how far the attempt has come.

import { report, write } from "#host";

import { explain } from "./failure.js";

const at = (level) => (...parts) => write(level, parts.map(asText).join(" "));

/** Lines that are kept with the attempt (`downbeat logs`), by level. `console.log` and its kin write there, too. */
export const log = { trace: at("trace"), debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };

/** Says that `done` of `total` is done, in a unit of the step's own choosing; without a total it is not known. */
export const progress = (done, total, message = "") => report(done, total ?? null, message);

function asText(part) {
  if (typeof part === "string") return part;
  return part instanceof Error ? explain(part) : (JSON.stringify(part) ?? String(part));
}
