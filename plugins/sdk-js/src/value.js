// What JSON can't say. `JSON.stringify` turns it into `null` or drops it without a word; a step that gives it should hear.

/** What in `value` is no JSON, and where; `undefined` if all of it is. */
export function unfit(value, path = "") {
  switch (typeof value) {
    case "boolean":
      return undefined;
    case "string":
      return value.isWellFormed() ? undefined : `${at(path)} has half a surrogate pair in it`;
    case "number":
      return Number.isFinite(value) ? undefined : `${at(path)} is ${value}, which JSON can't say`;
    case "object":
      return value === null || typeof value.toJSON === "function" ? undefined : unfitWithin(value, path);
    default:
      return `${at(path)} is ${value === undefined ? "undefined" : `a ${typeof value}`}, which JSON can't say`;
  }
}

function unfitWithin(value, path) {
  if (Array.isArray(value)) {
    return first(value, (item, index) => unfit(item, `${path}[${index}]`));
  }
  // A field that is undefined is not there.
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return first(fields, ([key, field]) => unfit(key, `the key ${JSON.stringify(key)}`) ?? unfit(field, within(path, key)));
}

/** The first answer that `ask` gives for one of `items`. */
export function first(items, ask) {
  for (const [index, item] of items.entries()) {
    const answer = ask(item, index);
    if (answer !== undefined) return answer;
  }
  return undefined;
}

/** The path of a field of the value at `path`. */
export const within = (path, key) => (path === "" ? key : `${path}.${key}`);

/** A path, as it is called in a sentence. */
export const at = (path) => (path === "" ? "the whole" : path);
