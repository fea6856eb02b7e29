/* Words and elements: how numbers read, and how text gets on the page (always as text, never as markup). */

const DATA = JSON.parse(document.getElementById("data").textContent);
const Z90 = 1.6449; // 90 % of a normal distribution lie within so many standard deviations
const MISSING = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** With that many decimals. */
function fixed(value, digits = 3) {
  return known(value) ? value.toFixed(digits).replace("-", "−") : MISSING;
}

/** With its sign; what rounds to zero has none. */
function signed(value, digits = 3) {
  if (!known(value)) return MISSING;
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : "+") + text;
}

/** A fraction in percent. */
function percent(share, digits = 1) {
  return known(share) ? `${fixed(100 * share, digits)} %` : MISSING;
}

/** Three digits and a suffix: 307200 is "307 k". */
function scaled(value) {
  if (!known(value)) return MISSING;
  for (const [power, suffix] of [
    [1e12, " T"],
    [1e9, " G"],
    [1e6, " M"],
    [1e3, " k"],
  ]) {
    if (Math.abs(value) >= power * 0.9995) {
      const number = value / power;
      return number.toFixed(Math.abs(number) >= 99.95 ? 0 : Math.abs(number) >= 9.995 ? 1 : 2) + suffix;
    }
  }
  return value.toFixed(0);
}

/** A count with thousands apart. */
function whole(value) {
  return known(value)
    ? Math.round(value)
        .toString()
        .replace(/\B(?=(\d{3})+$)/g, ",")
    : MISSING;
}

/** {value, low, high} as "−0.120 (−0.140 to −0.100)". */
function interval(values, digits = 3) {
  if (!values) return MISSING;
  return `${signed(values.value, digits)} (${signed(values.low, digits)} to ${signed(values.high, digits)})`;
}

/** An interval in a table cell: the number, its ends below. */
function intervalCell(values, digits = 3) {
  return values
    ? { text: signed(values.value, digits), small: `${signed(values.low, digits)} to ${signed(values.high, digits)}` }
    : MISSING;
}

/** How many times the noise a difference is. */
function multiple(value, noise) {
  if (!known(value) || !known(noise) || noise <= 0) return MISSING;
  const times = Math.abs(value) / noise;
  return times >= 9.95 ? `${times.toFixed(0)}×` : `${times.toFixed(1)}×`;
}

function seconds(value) {
  if (!known(value)) return MISSING;
  if (value < 90) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return value < 5400 ? `${(value / 60).toFixed(1)} min` : `${(value / 3600).toFixed(1)} h`;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const dot = (one, other) => sum(one.map((value, n) => value * other[n]));
const l1 = (one, other) => sum(one.map((value, n) => Math.abs(value - other[n])));

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function deviation(values) {
  if (values.length < 2) return null;
  const centre = mean(values);
  return Math.sqrt(sum(values.map((value) => (value - centre) ** 2)) / (values.length - 1));
}

/** An element with attributes and children; strings become text nodes, null and false are skipped. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child.nodeType ? child : document.createTextNode(String(child)));
  }
  return node;
}

const paragraph = (...children) => el("p", {}, ...children);
const note = (...children) => el("p", { class: "note" }, ...children);

/**
 * A table in a box that scrolls. `columns`: [{name, words, hint}] (words: text, not a number); `rows`: lists of cells,
 * each a text or {text, small, hint, tint, caution}; tint is from -1 (better) to 1 (worse).
 */
function table(columns, rows, { caption = "" } = {}) {
  const heads = columns.map((column) =>
    el("th", { scope: "col", class: column.words ? "words" : "number", title: column.hint }, column.name),
  );
  const body = rows.map((row) =>
    el(
      "tr",
      {},
      row.map((cell, n) => tableCell(cell, columns[n], n)),
    ),
  );
  const name = caption || `Table of ${columns[0].name}`;
  return el(
    "div",
    { class: "table" },
    caption ? el("p", { class: "caption" }, caption) : null,
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": name },
      el("table", { "aria-label": name }, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body)),
    ),
  );
}

function tableCell(cell, column, n) {
  const value = cell !== null && typeof cell === "object" && !cell.nodeType ? cell : { text: cell };
  const node = el(
    n ? "td" : "th",
    {
      scope: n ? null : "row",
      class: [column.words ? "words" : "number", value.caution ? "caution" : ""].join(" ").trim(),
      title: value.hint,
    },
    value.text ?? MISSING,
    value.small ? el("small", {}, value.small) : null,
  );
  if (known(value.tint) && value.tint !== 0) {
    node.classList.add(value.tint > 0 ? "dear" : "gain");
    node.style.setProperty("--strength", `${Math.round(Math.min(1, Math.abs(value.tint)) * 60)}%`);
  }
  return node;
}

/** Something folded away, with a word on what it is. */
function folded(label, ...children) {
  return el("details", {}, el("summary", {}, label), ...children);
}

/** A choice of one from a list; calls `change(value)` now and whenever it changes. */
function chooser(label, options, change) {
  const select = el(
    "select",
    { onchange: () => change(select.value) },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  change(options[0][0]);
  return el("label", { class: "chooser" }, `${label} `, select);
}

/** The mixture everything is compared with, as the study calls it: natural, current ...; null where there is none. */
const REFERENCE =
  (DATA.verify?.rows || []).find((row) => !row.measured && !row.predicted)?.mixture ??
  Object.keys(DATA.mixtures || {}).find((name) => name !== "optimized") ??
  null;

const metricName = (metric) => (metric === "objective" ? "the objective" : metric);
