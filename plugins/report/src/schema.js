// What the step takes and gives. Every text is plain: what is special in Markdown or HTML is escaped, so that a commit
// message can't forge a heading.

const text = (description) => ({ type: "string", description });

const link = {
  type: "object",
  description: "A link",
  properties: { text: text("What is shown"), link: { type: "string", pattern: "^(https?://|mailto:)[^\\s<>]+$" } },
  required: ["text", "link"],
  additionalProperties: false,
};

const facts = {
  type: "object",
  description: "Key figures by name, in the order in which they are shown",
  additionalProperties: { anyOf: [{ type: ["string", "number", "boolean", "null"] }, { $ref: "#/$defs/link" }] },
};

const table = {
  type: "object",
  properties: {
    columns: {
      type: "array",
      description: "Which fields of the rows are shown, in this order; by default all, in the order in which they appear",
      items: {
        anyOf: [
          { type: "string" },
          {
            type: "object",
            properties: {
              key: text("The field's name"),
              title: text("The column's heading; by default the key"),
              align: { enum: ["left", "right", "center"], description: "By default right if all values are numbers" },
            },
            required: ["key"],
            additionalProperties: false,
          },
        ],
      },
    },
    rows: {
      type: "array",
      description: "Objects, such as another step's list of results; a value may be a link, what is nested is shown as JSON",
      items: { type: "object" },
    },
  },
  required: ["rows"],
  additionalProperties: false,
};

const decision = {
  type: "object",
  properties: {
    what: text("What was decided on"),
    outcome: text("How"),
    why: text("For which reason"),
    by: text("By whom or what"),
    at: text("When"),
  },
  required: ["what", "outcome"],
  additionalProperties: false,
};

const section = {
  type: "object",
  description: "What is there is shown in the order of this list",
  properties: {
    title: { type: "string", minLength: 1 },
    text: text("Paragraphs, parted by empty lines"),
    facts: { $ref: "#/$defs/facts" },
    table: { $ref: "#/$defs/table" },
    decisions: { type: "array", items: { $ref: "#/$defs/decision" } },
    items: { type: "array", description: "A list", items: { type: "string" } },
    code: {
      type: "object",
      description: "Lines that are shown as they are: the end of a log, a diff",
      properties: { text: { type: "string" }, language: { type: "string", pattern: "^[A-Za-z0-9+-]*$" } },
      required: ["text"],
      additionalProperties: false,
    },
  },
  required: ["title"],
  additionalProperties: false,
};

export const input = {
  type: "object",
  properties: {
    title: { type: "string", minLength: 1, description: "What the report is about, in one line" },
    status: { enum: ["success", "warning", "failure", "info"], description: "How it went" },
    summary: text("What a reader has to know who reads no further; paragraphs are parted by empty lines"),
    facts: { $ref: "#/$defs/facts" },
    sections: { type: "array", items: { $ref: "#/$defs/section" } },
    footer: text("A last line"),
    html: { type: "boolean", default: false, description: "Render HTML as well" },
  },
  required: ["title"],
  additionalProperties: false,
  $defs: { link, facts, table, decision, section },
};

export const output = {
  type: "object",
  properties: {
    markdown: text("GitHub's Markdown"),
    html: text("One element, `<article>`, without style or script; only if asked for"),
  },
  required: ["markdown"],
  additionalProperties: false,
};
