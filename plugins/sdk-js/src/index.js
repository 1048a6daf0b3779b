// What a step in JavaScript is written with: `defineStep`, three ways to fail, a log and progress.
//
// Everything that looks like JSON text, WIT or the host stays behind this door: an author sees values, exceptions and
// `console.log`. What a step can't have (a clock, randomness, files, promises that wait for something) is fixed or refused
// with a sentence, never left to trap.

export { Failure, invalidInput, permanent, transient } from "./failure.js";
export { log, progress } from "./log.js";
export { defineStep } from "./step.js";
