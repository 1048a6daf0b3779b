// Whether a value is what a schema promises: the part of JSON Schema (2020-12) that step authors write.
//
// The engine checks what is written in a workflow before anything runs; what comes out of another step is only known
// here. A keyword that is not understood is an error when the step is built and never silently true. References are local
// (`#/$defs/name`), as the boundary demands.

import { at, first, within } from "./value.js";

const ANNOTATIONS = new Set(["$schema", "$comment", "$defs", "title", "description", "default", "examples"]);

/** Throws if `schema` is none, or uses what is not understood; `name` is what to call it. */
export function checkSchema(schema, name, path = name) {
  if (typeof schema === "boolean" && path !== name) return;
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    throw new TypeError(`defineStep: \`${path}\` must be a JSON Schema: an object`);
  }
  for (const [keyword, value] of Object.entries(schema)) {
    if (!ANNOTATIONS.has(keyword) && !Object.hasOwn(KEYWORDS, keyword)) {
      throw new TypeError(`defineStep: \`${path}\` uses \`${keyword}\`, which this SDK does not check`);
    }
    const fault = faultOf(keyword, value);
    if (fault) throw new TypeError(`defineStep: \`${path}.${keyword}\` ${fault}`);
    for (const [inner, key] of subschemas(keyword, value)) checkSchema(inner, name, `${path}.${keyword}${key}`);
  }
}

// What only shows when a value is checked, and would then be the fault of whoever gave the value.
function faultOf(keyword, value) {
  if (keyword === "type") {
    const wrong = [value].flat().filter((type) => !Object.hasOwn(TYPES, type));
    return wrong.length === 0 ? undefined : `is ${JSON.stringify(wrong[0])}; types are ${Object.keys(TYPES).join(", ")}`;
  }
  if (keyword !== "pattern") return undefined;
  if (typeof value !== "string") return "must be a text";
  try {
    new RegExp(value, "u");
    return undefined;
  } catch (error) {
    return `is no regular expression: ${error.message}`;
  }
}

function subschemas(keyword, value) {
  switch (keyword) {
    case "properties":
    case "$defs":
      return Object.entries(value).map(([key, schema]) => [schema, `.${key}`]);
    case "anyOf":
    case "oneOf":
      return value.map((schema, index) => [schema, `[${index}]`]);
    case "items":
    case "additionalProperties":
      return [[value, ""]];
    default:
      return [];
  }
}

/** What in `value` is not as `schema` says, in a sentence that names the place; `undefined` if all of it is. */
export function mismatch(schema, value, path = "", root = schema) {
  if (schema === true) return undefined;
  if (schema === false) return `${at(path)} is not allowed`;
  return first(Object.keys(schema), (keyword) => KEYWORDS[keyword]?.({ schema, value, path, root, is: schema[keyword] }));
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

const TYPES = {
  null: (value) => value === null,
  boolean: (value) => typeof value === "boolean",
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number",
  integer: (value) => Number.isInteger(value),
  array: Array.isArray,
  object: isObject,
};

const nameOf = (value) => Object.keys(TYPES).find((type) => type !== "integer" && TYPES[type](value)) ?? typeof value;

// Length in characters, as JSON Schema counts them, and not in UTF-16 units.
const lengthOf = (text) => [...text].length;

const KEYWORDS = {
  type({ value, path, is }) {
    const types = [is].flat();
    if (types.some((type) => TYPES[type](value))) return undefined;
    return `${at(path)} must be ${types.join(" or ")}, and is ${nameOf(value)}`;
  },
  enum({ value, path, is }) {
    if (is.some((allowed) => same(allowed, value))) return undefined;
    return `${at(path)} must be one of ${is.map((allowed) => JSON.stringify(allowed)).join(", ")}`;
  },
  const({ value, path, is }) {
    return same(is, value) ? undefined : `${at(path)} must be ${JSON.stringify(is)}`;
  },
  $ref({ value, path, root, is }) {
    const steps = is.replace(/^#\/?/, "").split("/").filter(Boolean);
    return mismatch(steps.reduce((schema, key) => schema[key], root), value, path, root);
  },
  anyOf({ value, path, root, is }) {
    const faults = is.map((schema) => mismatch(schema, value, path, root));
    if (faults.includes(undefined)) return undefined;
    return `${at(path)} has none of the forms that it may have (${faults.join("; ")})`;
  },
  oneOf({ value, path, root, is }) {
    const faults = is.map((schema) => mismatch(schema, value, path, root));
    const fitting = faults.filter((fault) => fault === undefined).length;
    if (fitting === 1) return undefined;
    return fitting > 1 ? `${at(path)} has several forms at once` : `${at(path)} has none of the forms that it may have (${faults.join("; ")})`;
  },

  required({ value, path, is }) {
    if (!isObject(value)) return undefined;
    return first(is, (key) => (Object.hasOwn(value, key) && value[key] !== undefined ? undefined : `${within(path, key)} is missing`));
  },
  properties({ value, path, root, is }) {
    if (!isObject(value)) return undefined;
    const present = Object.keys(is).filter((key) => Object.hasOwn(value, key) && value[key] !== undefined);
    return first(present, (key) => mismatch(is[key], value[key], within(path, key), root));
  },
  additionalProperties({ schema, value, path, root, is }) {
    if (!isObject(value)) return undefined;
    const known = schema.properties ?? {};
    const others = Object.keys(value).filter((key) => !Object.hasOwn(known, key) && value[key] !== undefined);
    return first(others, (key) =>
      is === false ? `there is no \`${within(path, key)}\`` : mismatch(is, value[key], within(path, key), root),
    );
  },

  items({ value, path, root, is }) {
    return Array.isArray(value) ? first(value, (item, index) => mismatch(is, item, `${path}[${index}]`, root)) : undefined;
  },
  minItems: ({ value, path, is }) => (Array.isArray(value) && value.length < is ? `${at(path)} must have ${is} items or more` : undefined),
  maxItems: ({ value, path, is }) => (Array.isArray(value) && value.length > is ? `${at(path)} must have ${is} items or fewer` : undefined),

  minLength: ({ value, path, is }) =>
    typeof value === "string" && lengthOf(value) < is ? `${at(path)} must have ${is} characters or more` : undefined,
  maxLength: ({ value, path, is }) =>
    typeof value === "string" && lengthOf(value) > is ? `${at(path)} must have ${is} characters or fewer` : undefined,
  pattern: ({ value, path, is }) =>
    typeof value === "string" && !new RegExp(is, "u").test(value) ? `${at(path)} must match ${is}` : undefined,
  minimum: ({ value, path, is }) => (typeof value === "number" && value < is ? `${at(path)} must be ${is} or more` : undefined),
  maximum: ({ value, path, is }) => (typeof value === "number" && value > is ? `${at(path)} must be ${is} or less` : undefined),
};

// Key order says nothing in JSON.
function same(one, other) {
  if (one === other) return true;
  if (Array.isArray(one)) return Array.isArray(other) && one.length === other.length && one.every((item, i) => same(item, other[i]));
  if (!isObject(one) || !isObject(other)) return false;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => Object.hasOwn(other, key) && same(one[key], other[key]));
}
