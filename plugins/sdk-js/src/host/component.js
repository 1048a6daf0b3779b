// The host, seen from inside of a component.

import "./language.js";

export { write } from "downbeat:step/log@0.1.0";
export { report } from "downbeat:step/progress@0.1.0";
