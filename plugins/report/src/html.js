// A document in HTML: one element to be put into a page or a mail, without style, script or anything that is loaded.

import { visible } from "./markdown.js";

/** The HTML of a document's blocks. */
export function asHtml(blocks) {
  return `<article>\n${blocks.map(asBlock).join("\n")}\n</article>\n`;
}

function asBlock(block) {
  switch (block.kind) {
    case "heading":
      return `<h${block.level}>${line(block.spans)}</h${block.level}>`;
    case "paragraph":
      return `<p>${line(block.spans).replaceAll("\n", "<br>\n")}</p>`;
    case "list":
      return `<ul>\n${block.items.map((spans) => `<li>${line(spans)}</li>`).join("\n")}\n</ul>`;
    case "table":
      return asTable(block);
    case "code":
      return `<pre><code${block.language ? ` class="language-${block.language}"` : ""}>${escape(block.text)}</code></pre>`;
    case "rule":
      return "<hr>";
  }
}

function asTable({ columns, rows }) {
  const cell = (tag, spans, { align }) => `<${tag}${align === "left" ? "" : ` align="${align}"`}>${line(spans)}</${tag}>`;
  const row = (tag, cells) => `<tr>${cells.map((spans, index) => cell(tag, spans, columns[index])).join("")}</tr>`;
  const head = row("th", columns.map(({ spans }) => spans));
  const body = rows.map((cells) => row("td", cells)).join("\n");
  return `<table>\n<thead>\n${head}\n</thead>\n<tbody>\n${body}\n</tbody>\n</table>`;
}

const line = (spans) => spans.map(asSpan).join("");

function asSpan({ text, strong, code, link }) {
  const shown = escape(text);
  if (link) return `<a href="${escape(link)}">${shown}</a>`;
  if (code) return `<code>${shown}</code>`;
  return strong ? `<strong>${shown}</strong>` : shown;
}

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => visible(text).replace(/[&<>"']/g, (character) => ENTITIES[character]);
