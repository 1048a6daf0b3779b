import assert from "node:assert/strict";
import test from "node:test";

import { describeStep, logged, runStep } from "downbeat-sdk/testing";

import manifest from "../package.json" with { type: "json" };
import { step } from "../src/report.js";

/** The Markdown of a report, without its title. */
const markdown = (report) => runStep(step, { title: "T", ...report }).markdown.replace(/^# T\n\n?/, "");

/** The Markdown of one section, without its title. */
const section = (content) => markdown({ sections: [{ title: "S", ...content }] }).replace(/^## S\n\n?/, "");

test("a title is enough", () => {
  assert.deepEqual(runStep(step, { title: "T" }), { markdown: "# T\n" });
  assert.deepEqual(logged(), ['info: rendered "T": 0 sections, 4 characters of Markdown']);
});

test("without a title there is no report", () => {
  assert.throws(() => runStep(step, {}), { kind: "invalid-input", message: /title is missing/ });
});

test("an unknown field is an error that names its place", () => {
  assert.throws(() => runStep(step, { title: "T", sections: [{ title: "S", tabel: {} }] }), { message: /there is no `sections\[0\]\.tabel`/ });
});

test("a summary has paragraphs, and a break in one stays a break", () => {
  assert.equal(markdown({ summary: "one\ntwo\n\n\n three" }), "one\\\ntwo\n\nthree\n");
});

test("facts are listed in their order, whatever they are", () => {
  const facts = { b: "x", a: 1.5, yes: true, nothing: null, run: { text: "log (1)", link: "https://ci.example/1_(2)" } };
  assert.equal(markdown({ facts }), "- **b:** x\n- **a:** 1.5\n- **yes:** yes\n- **nothing:** –\n- **run:** [log (1)](<https://ci.example/1_(2)>)\n");
});

test("a table shows all fields in the order of their appearance, and numbers on the right", () => {
  const rows = [{ name: "a", value: 1 }, { name: "b", note: { deep: ["x|y"] } }];
  assert.equal(section({ table: { rows } }), '| name | value | note |\n| :-- | --: | :-- |\n| a | 1 | – |\n| b | – | `{"deep":["x\\|y"]}` |\n');
});

test("a table shows the columns that are asked for", () => {
  const table = { columns: [{ key: "value", title: "ms", align: "center" }, "name"], rows: [{ name: "a", value: 1, other: 2 }] };
  assert.equal(section({ table }), "| ms | name |\n| :-: | :-- |\n| 1 | a |\n");
});

test("what is empty says so", () => {
  for (const content of [{ table: { rows: [] } }, { table: { rows: [{}] } }, { items: [] }, { decisions: [] }]) assert.equal(section(content), "None.\n");
});

test("a decision has its reason, and who made it when", () => {
  const decisions = [{ what: "Promote", outcome: "no", why: "it was slow", by: "the gate", at: "12:00" }, { what: "Keep", outcome: "yes" }];
  assert.equal(section({ decisions }), "- **Promote:** no, because it was slow (by the gate, at 12:00)\n- **Keep:** yes\n");
});

test("what is special in Markdown is escaped where it is special", () => {
  const cases = {
    "# no heading": "\\# no heading",
    "- no item": "\\- no item",
    "1. no item": "1\\. no item",
    "2) no item": "2\\) no item",
    "a # b - c 1. d": "a # b - c 1. d",
    "===": "\\===",
    "-5": "-5",
    "1.5": "1.5",
    "#42": "#42",
    "*no* _emphasis_ in snake_case": "\\*no\\* \\_emphasis\\_ in snake_case",
    "<script> & &amp; &#60;": "\\<script\\> & \\&amp; \\&#60;",
    "[no](link) ![no](image) `no code`": "\\[no\\](link) !\\[no\\](image) \\`no code\\`",
    "back\\slash ~~strike~~": "back\\\\slash \\~\\~strike\\~\\~",
    "bell \u0007 escape \u001b[31m": "bell \ufffd escape \ufffd\\[31m",
  };
  for (const [text, escaped] of Object.entries(cases)) assert.equal(markdown({ summary: text }), `${escaped}\n`);
});

test("a line in the middle of a text can't begin a block either", () => {
  assert.equal(markdown({ summary: "one\n# two\n- three\n---" }), "one\\\n\\# two\\\n\\- three\\\n\\---\n");
});

test("a cell can't end its row, nor an item its list", () => {
  assert.equal(section({ table: { rows: [{ a: "x | y\nz" }] } }), "| a |\n| :-- |\n| x \\| y z |\n");
  assert.equal(section({ items: ["one\n\n# two"] }), "- one  \\# two\n");
});

test("code can't end its fence", () => {
  assert.equal(section({ code: { text: "a\n```\nb\n", language: "diff" } }), "````diff\na\n```\nb\n````\n");
});

test("a link that could run code is not one", () => {
  assert.throws(() => runStep(step, { title: "T", facts: { x: { text: "x", link: "javascript:alert(1)" } } }), { kind: "invalid-input" });
  assert.equal(section({ table: { rows: [{ a: { text: "x", link: "javascript:alert(1)" } }] } }).split("\n")[2], '| `{"text":"x","link":"javascript:alert(1)"}` |');
});

test("HTML is rendered on request, with nothing in it that came from outside", () => {
  const { html } = runStep(step, {
    title: "<T>",
    html: true,
    summary: "a & b\nc",
    sections: [{ title: "S", table: { rows: [{ n: 1, link: { text: '"x"', link: "https://x.example/?a=1&b='" } }] }, code: { text: "<pre>", language: "html" } }],
    footer: "end",
  });
  assert.equal(
    html,
    `<article>
<h1>&lt;T&gt;</h1>
<p>a &amp; b<br>
c</p>
<h2>S</h2>
<table>
<thead>
<tr><th align="right">n</th><th>link</th></tr>
</thead>
<tbody>
<tr><td align="right">1</td><td><a href="https://x.example/?a=1&amp;b=&#39;">&quot;x&quot;</a></td></tr>
</tbody>
</table>
<pre><code class="language-html">&lt;pre&gt;</code></pre>
<hr>
<p>end</p>
</article>
`,
  );
});

test("the step is described as its package is", () => {
  const { name, version, wants } = describeStep(step);
  assert.deepEqual({ name, version, wants }, { name: manifest.name, version: manifest.version, wants: [] });
});
