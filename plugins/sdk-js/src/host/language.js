// What JavaScript takes for granted and a component does not have. A call of the interpreter's own clock would end the
// instance without a word, and its random numbers would be those of the day on which the step was built.
//
// Without grants a step's world is fixed, for every language the same: it is the 1st of January 2000, time moves by a
// microsecond at each look, and random numbers are one sequence. `console` writes to the attempt's log.

import { log } from "../log.js";

const NOW = Date.UTC(2000, 0, 1);
const RealDate = Date;

RealDate.now = () => NOW;
globalThis.Date = new Proxy(RealDate, {
  construct: (target, parts, newTarget) => Reflect.construct(target, parts.length === 0 ? [NOW] : parts, newTarget),
  apply: () => new RealDate(NOW).toUTCString(),
});
RealDate.prototype.constructor = globalThis.Date;

let looks = 0;
globalThis.performance = { timeOrigin: NOW, now: () => (looks += 1) / 1000 };

// "xorshift32" (G. Marsaglia: Xorshift RNGs, 2003). Any start but zero would do; it only must not change.
let state = 0x64776e62;
Math.random = () => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
};

// `log` is looked up at the call: this module is loaded before that one is done.
const to = (level) => (...parts) => log[level](...parts);
globalThis.console = { trace: to("trace"), debug: to("debug"), log: to("info"), info: to("info"), warn: to("warn"), error: to("error") };
