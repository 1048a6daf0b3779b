// The step: facts and tables of a run in, a report for people out.
//
// What belongs into a report is decided in `document.js`; how it is written, in `markdown.js` and `html.js`. This file is
// the door only.

import { defineStep, log, progress } from "downbeat-sdk";

import { asDocument } from "./document.js";
import { asHtml } from "./html.js";
import { asMarkdown } from "./markdown.js";
import { input, output } from "./schema.js";

export const step = defineStep({
  name: "report",
  version: "0.1.0",
  summary: "Renders a report as Markdown, and as HTML if asked to.",
  input,
  output,
  run(report) {
    const document = asDocument(report);
    const rendered = { markdown: asMarkdown(document) };
    if (report.html) rendered.html = asHtml(document);
    const sections = report.sections?.length ?? 0;
    progress(1, 1, report.title);
    log.info(`rendered "${report.title}": ${sections} sections, ${rendered.markdown.length} characters of Markdown`);
    return rendered;
  },
});
