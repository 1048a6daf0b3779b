// From a report to a document: headings, paragraphs, lists, tables and code, and nothing about how they are written.
//
// A document is a list of blocks. A block's texts are lists of spans: `{ text }`, and with it `strong`, `code` or `link`.

/** The blocks of `report`, which is valid under the input schema. */
export function asDocument({ title, status, summary, facts, sections = [], footer }) {
  return [
    heading(1, title),
    ...(status ? [paragraph([strong("Status:"), plain(` ${status}`)])] : []),
    ...paragraphs(summary),
    ...factList(facts),
    ...sections.flatMap(asBlocks),
    ...(footer ? [rule, paragraph([plain(footer)])] : []),
  ];
}

function asBlocks({ title, text, facts, table, decisions, items, code }) {
  return [
    heading(2, title),
    ...paragraphs(text),
    ...factList(facts),
    ...(table ? [asTable(table)] : []),
    ...(decisions ? [list(decisions.map(asDecision))] : []),
    ...(items ? [list(items.map((item) => [plain(item)]))] : []),
    ...(code ? [{ kind: "code", text: code.text, language: code.language ?? "" }] : []),
  ];
}

const plain = (text) => ({ text });
const strong = (text) => ({ text, strong: true });

const rule = { kind: "rule" };
const heading = (level, text) => ({ kind: "heading", level, spans: [plain(text)] });
const paragraph = (spans) => ({ kind: "paragraph", spans });
// A list or table that turned out empty is a fact as well.
const none = paragraph([plain("None.")]);
const list = (items) => (items.length === 0 ? none : { kind: "list", items });

const paragraphs = (text = "") =>
  text
    .split(/\n\s*\n/)
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => paragraph([plain(part)]));

function factList(facts = {}) {
  const items = Object.entries(facts).map(([name, value]) => [strong(`${name}:`), plain(" "), asSpan(value)]);
  return items.length === 0 ? [] : [list(items)];
}

function asDecision({ what, outcome, why, by, at }) {
  const who = [by && `by ${by}`, at && `at ${at}`].filter(Boolean).join(", ");
  return [strong(`${what}:`), plain(` ${outcome}${why ? `, because ${why}` : ""}${who ? ` (${who})` : ""}`)];
}

function asTable({ columns, rows }) {
  if (rows.length === 0) return none;
  const shown = (columns ?? [...new Set(rows.flatMap(Object.keys))]).map((column) => {
    const { key, title = key, align } = typeof column === "string" ? { key: column } : column;
    const values = rows.map((row) => row[key]).filter((value) => value !== undefined && value !== null);
    const numeric = values.length > 0 && values.every((value) => typeof value === "number");
    return { key, spans: [plain(title)], align: align ?? (numeric ? "right" : "left") };
  });
  if (shown.length === 0) return none;
  return { kind: "table", columns: shown, rows: rows.map((row) => shown.map(({ key }) => [asSpan(row[key])])) };
}

function asSpan(value) {
  switch (typeof value) {
    case "string":
      return plain(value);
    case "number":
      return plain(String(value));
    case "boolean":
      return plain(value ? "yes" : "no");
    case "undefined":
      return plain("–");
    default:
      return value === null ? plain("–") : isLink(value) ? value : { text: JSON.stringify(value), code: true };
  }
}

// In a row anything may stand, so it is looked at closely here: what is no harmless link is shown as JSON.
function isLink(value) {
  const isTwo = Object.keys(value).length === 2 && typeof value.text === "string" && typeof value.link === "string";
  return isTwo && /^(https?:\/\/|mailto:)[^\s<>]+$/u.test(value.link);
}
