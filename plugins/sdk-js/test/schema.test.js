import assert from "node:assert/strict";
import test from "node:test";

import { mismatch } from "../src/schema.js";

/** What is wrong with each value under `schema`; `undefined` if nothing is. */
function check(schema, ...cases) {
  for (const [value, fault] of cases) assert.equal(mismatch(schema, value), fault, JSON.stringify(value));
}

test("types are told apart", () => {
  check({ type: "integer" }, [1], [1.5, "the whole must be integer, and is number"], ["1", "the whole must be integer, and is string"]);
  check({ type: ["string", "null"] }, ["x"], [null], [[], "the whole must be string or null, and is array"]);
  check({ type: "object" }, [{}], [[], "the whole must be object, and is array"], [null, "the whole must be object, and is null"]);
});

test("the place of a fault is named from the top", () => {
  const schema = { properties: { a: { items: { properties: { b: { type: "string" } } } } } };
  check(schema, [{ a: [{ b: "x" }, { b: 1 }] }, "a[1].b must be string, and is number"]);
});

test("fields are required, known, or of another schema", () => {
  check({ required: ["a"], properties: { a: {} }, additionalProperties: false }, [{ a: 1 }], [{}, "a is missing"], [{ a: 1, b: 1 }, "there is no `b`"]);
  check({ additionalProperties: { type: "number" } }, [{ x: 1 }], [{ x: "1" }, "x must be number, and is string"]);
});

test("what an object inherits is no field", () => {
  check({ required: [], properties: { toString: { type: "string" } } }, [{}]);
  check({ required: ["constructor"] }, [{ constructor: 1 }], [{}, "constructor is missing"], [{ constructor: undefined }, "constructor is missing"]);
  check({ additionalProperties: false }, [JSON.parse('{"__proto__":1}'), "there is no `__proto__`"]);
});

test("values are compared as JSON, whatever the order of keys", () => {
  check({ enum: ["a", { x: 1, y: [2] }] }, ["a"], [{ y: [2], x: 1 }], [{ x: 1 }, 'the whole must be one of "a", {"x":1,"y":[2]}']);
  check({ const: 1 }, [1], ["1", "the whole must be 1"]);
});

test("lengths count characters, and bounds include their ends", () => {
  check({ minLength: 2, maxLength: 2 }, ["😀😀"], ["😀", "the whole must have 2 characters or more"], ["abc", "the whole must have 2 characters or fewer"]);
  check({ minimum: 1, maximum: 2 }, [1], [2], [0.5, "the whole must be 1 or more"], [3, "the whole must be 2 or less"]);
  check({ minItems: 1, maxItems: 1 }, [[1]], [[], "the whole must have 1 items or more"], [[1, 2], "the whole must have 1 items or fewer"]);
  check({ pattern: "^é+$" }, ["éé"], ["e", "the whole must match ^é+$"]);
});

test("one of several forms fits, or the reason against each is given", () => {
  const forms = [{ type: "string" }, { type: "number" }];
  check({ anyOf: forms }, ["x"], [null, "the whole has none of the forms that it may have (the whole must be string, and is null; the whole must be number, and is null)"]);
  check({ oneOf: [...forms, { minimum: 0 }] }, [-1], [1, "the whole has several forms at once"]);
});

test("references lead to definitions, also to what they are part of", () => {
  const tree = { $ref: "#/$defs/tree", $defs: { tree: { properties: { kids: { items: { $ref: "#/$defs/tree" } }, name: { type: "string" } } } } };
  check(tree, [{ kids: [{ name: "x" }] }], [{ kids: [{ kids: [{ name: 1 }] }] }, "kids[0].kids[0].name must be string, and is number"]);
});
