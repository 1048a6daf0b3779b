// A document in GitHub's Markdown.
//
// What is special in Markdown is escaped where it would be special, and left alone elsewhere: the text is also read as it
// is, in a terminal or a chat.

/** The Markdown of a document's blocks, ending in a newline. */
export function asMarkdown(blocks) {
  return `${blocks.map(asBlock).join("\n\n")}\n`;
}

function asBlock(block) {
  switch (block.kind) {
    case "heading":
      return `${"#".repeat(block.level)} ${line(block.spans)}`;
    case "paragraph":
      // A break in the text is a break in the page.
      return line(block.spans, "\\\n");
    case "list":
      return block.items.map((spans) => `- ${line(spans)}`).join("\n");
    case "table":
      return asTable(block);
    case "code":
      return asCode(block);
    case "rule":
      return "---";
  }
}

const RULERS = { left: ":--", right: "--:", center: ":-:" };

function asTable({ columns, rows }) {
  const row = (cells) => `| ${cells.join(" | ")} |`;
  const head = [row(columns.map(({ spans }) => line(spans))), row(columns.map(({ align }) => RULERS[align]))];
  return [...head, ...rows.map((cells) => row(cells.map((spans) => line(spans))))].join("\n");
}

function asCode({ text, language }) {
  const fence = "`".repeat(Math.max(3, longestRun(text) + 1));
  return `${fence}${language}\n${visible(text).replace(/\n$/, "")}\n${fence}`;
}

function line(spans, lineBreak = " ") {
  const text = spans.map(asSpan).join("");
  const escaped = text.split("\n").map((part) => part.trimEnd().replace(START, escapeStart));
  return escaped.join(lineBreak);
}

// What would begin a heading or a list, or be a ruler. After a number it is the full stop that is special.
const START = /^(\s*)(#{1,6}(?=\s|$)|[+-](?=\s|$)|[=-]+(?=\s*$)|\d+(?=[.)](?:\s|$)))/;
const escapeStart = (_, space, mark) => (/\d/.test(mark) ? `${space}${mark}\\` : `${space}\\${mark}`);

function asSpan({ text, strong, code, link }) {
  if (code) return asCodeSpan(text);
  const shown = escape(visible(text));
  if (link) return `[${shown.replaceAll("\n", " ")}](<${link}>)`;
  return strong ? `**${shown}**` : shown;
}

function asCodeSpan(text) {
  const fence = "`".repeat(longestRun(text) + 1);
  const padding = fence.length > 1 ? " " : "";
  // Even in code, a bar ends a table's cell.
  return `${fence}${padding}${visible(text).replaceAll("\n", " ").replaceAll("|", "\\|")}${padding}${fence}`;
}

const longestRun = (text) => Math.max(0, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length));

// An underscore within a word and an ampersand that begins no entity are harmless.
function escape(text) {
  return text
    .replace(/[\\`*[\]<>|~]/g, "\\$&")
    .replace(/(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])/gu, "\\_")
    .replace(/&(?=#?\w+;)/g, "\\&");
}

/** Control characters other than tab and newline as the character for what can't be shown. */
export const visible = (text) => text.replace(/\r\n?/g, "\n").replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, "\ufffd");
