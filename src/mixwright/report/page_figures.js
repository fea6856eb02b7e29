/*
 * Figures as inline SVG. A figure is drawn at its own width and drawn again when that changes; its marks say what they
 * are on hover, on touch, and by the arrow keys. Three kinds: rows on one axis, points in a plane, lines over time.
 */

const SVG = "http://www.w3.org/2000/svg";
const tips = new WeakMap(); // mark -> lines of its tip
const state = { figures: 0, errors: [] };

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Makes a shape tell what it is; the first line is its name. */
function mark(shape, ...lines) {
  shape.classList.add("mark");
  tips.set(shape, lines.filter(Boolean));
  return shape;
}

const canvas = document.createElement("canvas").getContext("2d");

/** Width of a text in a figure, pixels. */
function textWidth(text, size = 13, strong = false) {
  canvas.font = `${strong ? "600 " : ""}${size}px ${getComputedStyle(document.body).getPropertyValue("--sans") || "sans-serif"}`;
  return canvas.measureText(text).width;
}

/** The text, cut to fit with an ellipsis. */
function fitted(text, width, size = 13, strong = false) {
  if (textWidth(text, size, strong) <= width) return text;
  let end = text.length;
  while (end > 1 && textWidth(`${text.slice(0, end)}…`, size, strong) > width) end--;
  return `${text.slice(0, end)}…`;
}

/** Positions on an axis and back; ticks at round numbers. */
function scale([low, high], [from, to], { root = false, count = 5 } = {}) {
  const bend = root ? (value) => Math.sqrt(Math.max(0, value)) : (value) => value;
  const [a, b] = [bend(low), bend(high === low ? low + 1 : high)];
  const at = (value) => from + ((bend(value) - a) / (b - a)) * (to - from);
  return { at, ticks: root ? rootTicks(high, Math.abs(to - from)) : roundTicks(low, high, count), low, high, from, to };
}

/** About `count` round numbers; at least three, for fewer do not make an axis. */
function roundTicks(low, high, count) {
  for (let wanted = Math.max(2, count); wanted < 12; wanted++) {
    const ticks = ticksAbout(low, high, wanted);
    if (ticks.length > 2) return ticks;
  }
  return ticksAbout(low, high, 12);
}

function ticksAbout(low, high, count) {
  const rough = (high - low || 1) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++)
    ticks.push(Number((n * step).toPrecision(12)));
  return ticks;
}

/** Round weights on a square-root axis of that many pixels, thinned out where they would touch. */
function rootTicks(high, pixels) {
  const kept = [];
  for (const tick of [0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1]) {
    const apart = kept.length ? (Math.sqrt(tick / high) - Math.sqrt(kept.at(-1) / high)) * pixels : Infinity;
    if (tick <= high * 1.001 && apart > 38) kept.push(tick);
  }
  return kept;
}

/** Lowest and highest of the known numbers, widened by a share of their range. */
function extent(values, margin = 0.05) {
  const found = values.filter(known);
  if (!found.length) return [0, 1];
  const [low, high] = [found.reduce((a, b) => Math.min(a, b)), found.reduce((a, b) => Math.max(a, b))];
  const pad = (high - low || Math.abs(high) || 1) * margin;
  return [low - pad, high + pad];
}

const decimals = (ticks) => Math.min(4, Math.max(0, ...ticks.map((tick) => (String(tick).split(".")[1] || "").length)));

/** A figure with its title, a line on how to read it, the drawing, and the same numbers as a table. */
function figure(parent, { title, words = "", key = null, draw, numbers = null, tall = false }) {
  const host = el("div", { class: tall ? "drawing tall" : "drawing" });
  const node = el(
    "figure",
    {},
    el("figcaption", {}, el("strong", {}, title), words ? ` ${words}` : ""),
    key,
    host,
    numbers ? folded("The same as a table", numbers) : null,
  );
  parent.append(node);
  let width = 0;
  let drawn = false;
  const redraw = () => {
    const next = Math.floor(host.clientWidth);
    if (!next) return;
    width = next;
    try {
      const picture = draw(width);
      fill(
        picture,
        {
          role: "img",
          tabindex: "0",
          "aria-label": `${title}. ${words} Arrow keys walk through the marks.`,
        },
        [],
      );
      host.replaceChildren(picture);
      if (!drawn) state.figures++;
      drawn = true;
    } catch (error) {
      complain(`figure "${title}"`, error);
      host.replaceChildren(note("This figure could not be drawn."));
    }
  };
  redraw();
  listen(host);
  new ResizeObserver(() => {
    if (Math.abs(Math.floor(host.clientWidth) - width) > 1) redraw();
  }).observe(host);
  return { node, redraw };
}

function complain(where, error) {
  state.errors.push(`${where}: ${error && error.message ? error.message : error}`);
  console.error(where, error);
}

/* -- tips ---------------------------------------------------------------------------------------------------- */

function listen(host) {
  let walked = -1;
  host.addEventListener("pointerover", (event) => {
    const shape = event.target.closest(".mark");
    if (shape) showTip(shape, event.clientX, event.clientY);
    else hideTip();
  });
  host.addEventListener("pointerleave", hideTip);
  host.addEventListener("focusout", () => {
    walked = -1;
    hideTip();
  });
  host.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hideTip();
    const marks = [...host.querySelectorAll(".mark")];
    if (!step || !marks.length) return;
    event.preventDefault();
    walked = walked < 0 ? (step > 0 ? 0 : marks.length - 1) : (walked + step + marks.length) % marks.length;
    const box = marks[walked].getBoundingClientRect();
    showTip(marks[walked], box.x + box.width / 2, box.y + box.height / 2);
  });
}

function showTip(shape, x, y) {
  hideTip();
  const tip = document.getElementById("tip");
  const [name, ...lines] = tips.get(shape) || [];
  if (name === undefined) return;
  shape.classList.add("shown");
  tip.replaceChildren(el("strong", {}, name), ...lines.map((line) => el("div", {}, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(6, Math.min(x + 14, innerWidth - width - 6))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? Math.max(6, y - height - 12) : y + 18}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
  for (const shape of document.querySelectorAll(".mark.shown")) shape.classList.remove("shown");
}

/* -- shapes -------------------------------------------------------------------------------------------------- */

const SHAPES = {
  circle: (x, y, r) => svg("circle", { cx: x, cy: y, r }),
  square: (x, y, r) => svg("rect", { x: x - r * 0.9, y: y - r * 0.9, width: 1.8 * r, height: 1.8 * r }),
  triangle: (x, y, r) => svg("path", { d: `M${x} ${y - 1.2 * r}L${x + 1.15 * r} ${y + 0.9 * r}H${x - 1.15 * r}Z` }),
  diamond: (x, y, r) =>
    svg("path", { d: `M${x} ${y - 1.35 * r}L${x + 1.25 * r} ${y}L${x} ${y + 1.35 * r}L${x - 1.25 * r} ${y}Z` }),
};

/** How each mixture looks everywhere on the page: colour and shape. */
const LOOKS = {
  natural: ["m-natural", "circle"],
  uniform: ["m-uniform", "square"],
  guess: ["m-guess", "triangle"],
  optimized: ["m-optimized", "diamond"],
};
const SPARE = [
  ["d2", "circle"],
  ["d4", "square"],
  ["d6", "triangle"],
  ["d1", "diamond"],
];

function look(name) {
  if (name === REFERENCE) return LOOKS.natural;
  if (Object.hasOwn(LOOKS, name)) return LOOKS[name];
  const others = Object.keys(DATA.mixtures || {}).concat((DATA.verify?.rows || []).map((row) => row.mixture));
  const at = [...new Set(others)].filter((other) => other !== REFERENCE && !Object.hasOwn(LOOKS, other)).indexOf(name);
  return SPARE[Math.max(0, at) % SPARE.length];
}

function mixturePoint(name, x, y, r = 5.5) {
  const [tone, shape] = look(name);
  const node = SHAPES[shape](x, y, r);
  node.setAttribute("class", `${tone} point`);
  return node;
}

function legend(entries) {
  return el(
    "p",
    { class: "legend" },
    entries.map(([name, picture]) => {
      const icon = svg("svg", { width: 18, height: 14, viewBox: "0 0 18 14", "aria-hidden": "true" }, picture(9, 7));
      return el("span", {}, icon, ` ${name}`);
    }),
  );
}

const swatch = (tone) => (x, y) => svg("rect", { x: x - 6, y: y - 5, width: 12, height: 10, class: `${tone} area` });
const mixtureLegend = (names) => legend(names.map((name) => [name, (x, y) => mixturePoint(name, x, y, 5)]));

/* -- rows on one axis ---------------------------------------------------------------------------------------- */

/**
 * One row per thing, all on one horizontal axis. rows: [{label, side, hint, draw(g, x, y, height)}]; side is the text at
 * the right. domain, axis: range and name of the axis; zero: where a line stands; root: square-root axis.
 */
function rowChart(
  width,
  { rows, domain, axis, format, zero = null, root = false, height = 26, band = null, head = "" },
) {
  const narrow = width < 560;
  const widest = Math.max(0, ...rows.map((row) => textWidth(row.label, 13, row.strong)));
  const left = narrow ? 10 : Math.min(widest + 14, width * 0.36);
  const sides = Math.max(textWidth(head, 12), ...rows.map((row) => (row.side ? textWidth(row.side, 12) : 0)));
  const right = narrow ? 22 : sides ? sides + 18 : 22;
  const lift = narrow ? 18 : 0;
  const long = rows.length > 20; // a long one scrolls, so its axis stands above it too
  const top = (head && !narrow ? 22 : 6) + (long ? 18 : 0);
  const step = height + lift;
  const bottom = top + rows.length * step;
  const x = scale(domain, [left + 6, width - right], { root, count: Math.min(7, (width - left - right) / 90) });
  const picture = svg("svg", { width, height: bottom + 44, viewBox: `0 0 ${width} ${bottom + 44}` });
  const write = format || ((tick) => fixed(tick, decimals(x.ticks)));
  for (const tick of x.ticks) {
    picture.append(svg("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: top, y2: bottom }));
    for (const y of long ? [bottom + 17, top - 6] : [bottom + 17]) {
      picture.append(svg("text", { class: "tick", x: x.at(tick), y, "text-anchor": "middle" }, write(tick)));
    }
  }
  if (band) {
    picture.append(
      mark(
        svg("rect", {
          class: "band",
          x: x.at(band.low),
          y: top,
          width: Math.max(1, x.at(band.high) - x.at(band.low)),
          height: bottom - top,
        }),
        ...band.tip,
      ),
    );
  }
  if (zero !== null)
    picture.append(svg("line", { class: "zero", x1: x.at(zero), x2: x.at(zero), y1: top, y2: bottom }));
  if (head && !narrow) picture.append(svg("text", { class: "side", x: width - 4, y: 13, "text-anchor": "end" }, head));
  rows.forEach((row, n) => {
    const middle = top + n * step + lift + height / 2;
    drawLabel(picture, row, { narrow, left, width, base: narrow ? top + n * step + 13 : middle + 4 });
    const group = svg("g");
    row.draw(group, x, middle, height);
    picture.append(group);
  });
  picture.append(
    svg(
      "text",
      {
        class: "axis",
        x: narrow ? width - 8 : (x.from + x.to) / 2,
        y: bottom + 36,
        "text-anchor": narrow ? "end" : "middle",
      },
      fitted(axis, width - 12, 12),
    ),
  );
  return picture;
}

function drawLabel(picture, row, { narrow, left, width, base }) {
  const room = narrow ? width - 16 - (row.side ? textWidth(row.side, 12) : 0) : left - 8;
  const shown = fitted(row.label, room, 13, row.strong);
  const label = svg(
    "text",
    {
      class: row.strong ? "label strong" : "label",
      x: narrow ? 4 : left - 4,
      y: base,
      "text-anchor": narrow ? "start" : "end",
    },
    shown,
  );
  if (shown !== row.label || row.hint) mark(label, row.label, row.hint);
  picture.append(label);
  if (row.side) {
    picture.append(svg("text", { class: "side", x: width - 4, y: base, "text-anchor": "end" }, row.side));
  }
}

/** A bar from one value to another on the row at y; thick: share of the row's height; gap: pixels left free after it. */
function bar(x, from, to, { y, height, tone, thick = 0.64, gap = 0 }) {
  const ends = [x.at(from), x.at(to)].sort((a, b) => a - b);
  return svg("rect", {
    class: tone,
    x: ends[0],
    y: y - (height * thick) / 2,
    width: Math.max(1, ends[1] - ends[0] - gap),
    height: height * thick,
  });
}

/** A dot with its interval. values: {value, low, high}; hollow: predicted, not measured. */
function drawInterval(
  group,
  x,
  y,
  values,
  { tone = "m-optimized", hollow = false, tip = [], shape = "circle", r = 5 },
) {
  if (known(values.low) && known(values.high)) {
    const ends = [values.low, values.high].map((value) => Math.max(x.from, Math.min(x.to, x.at(value))));
    group.append(svg("line", { class: `${tone} whisker`, x1: ends[0], x2: ends[1], y1: y, y2: y }));
    for (const end of ends)
      group.append(svg("line", { class: `${tone} whisker`, x1: end, x2: end, y1: y - 4, y2: y + 4 }));
  }
  const point = SHAPES[shape](x.at(values.value), y, r);
  point.setAttribute("class", `${tone} ${hollow ? "hollow" : "point"}`);
  group.append(tip.length ? mark(point, ...tip) : point);
}

/* -- points in a plane, lines over time ------------------------------------------------------------------------ */

/** Axes of a plane; gives the picture, both scales and a clipped group to draw in. */
function plane(width, height, { x, y, xName, yName, xFormat, yFormat, right = 16 }) {
  const bottom = height - 46;
  const yScale = scale(y, [bottom, 22], { count: Math.max(3, height / 70) });
  const writeY = yFormat || ((tick) => fixed(tick, decimals(yScale.ticks)));
  const left = Math.max(...yScale.ticks.map((tick) => textWidth(writeY(tick), 12))) + 16;
  const xScale = scale(x, [left, width - right], { count: Math.min(7, (width - left - right) / 90) });
  const writeX = xFormat || ((tick) => fixed(tick, decimals(xScale.ticks)));
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  for (const tick of yScale.ticks) {
    picture.append(
      svg("line", { class: "grid", x1: left, x2: width - right, y1: yScale.at(tick), y2: yScale.at(tick) }),
    );
    picture.append(
      svg("text", { class: "tick", x: left - 7, y: yScale.at(tick) + 4, "text-anchor": "end" }, writeY(tick)),
    );
  }
  for (const tick of xScale.ticks) {
    picture.append(
      svg("text", { class: "tick", x: xScale.at(tick), y: bottom + 18, "text-anchor": "middle" }, writeX(tick)),
    );
  }
  picture.append(svg("line", { class: "zero", x1: left, x2: width - right, y1: bottom, y2: bottom }));
  picture.append(
    svg("text", { class: "axis", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xName),
  );
  picture.append(svg("text", { class: "axis", x: 2, y: 12 }, yName));
  return { picture, x: xScale, y: yScale, left, bottom, right: width - right };
}

/** Lines over time. series: [{name, tone, dashed, points: [[x, y]], tip}]; lines: horizontal [{y, label, tone}]. */
function lineChart(width, { series, lines = [], crossings = [], xName, yName, xFormat, y }) {
  const height = Math.max(280, Math.min(420, width * 0.5));
  const names = [...new Set(series.map((one) => one.name))];
  const right = Math.min(width * 0.32, Math.max(...names.map((name) => textWidth(name, 12, true))) + 20);
  const all = series.flatMap((one) => one.points);
  const room = plane(width, height, {
    x: extent(
      all.map((point) => point[0]),
      0,
    ),
    y,
    xName,
    yName,
    xFormat,
    right,
  });
  const inside = (value) => Math.max(room.y.at(y[1]), Math.min(room.bottom, room.y.at(value)));
  for (const line of lines) {
    const at = room.y.at(line.y);
    room.picture.append(
      mark(svg("line", { class: `${line.tone} dashed`, x1: room.left, x2: room.right, y1: at, y2: at }), line.label),
    );
  }
  for (const one of series) {
    const shown = visible(one.points, y[1]);
    const path = shown
      .map(([a, b], n) => `${n ? "L" : "M"}${room.x.at(a).toFixed(1)} ${inside(b).toFixed(1)}`)
      .join("");
    room.picture.append(
      mark(svg("path", { class: `${one.tone} line${one.dashed ? " dashed" : ""}`, d: path }), ...one.tip),
    );
  }
  for (const cross of crossings) {
    const point = SHAPES.circle(room.x.at(cross.x), room.y.at(cross.y), 4.5);
    point.setAttribute("class", `${cross.tone} point`);
    room.picture.append(mark(point, ...cross.tip));
  }
  endLabels(room, series, names);
  return room.picture;
}

/** The part of a curve from where it comes below the top edge, with the point of entry. */
function visible(points, top) {
  const first = points.findIndex((point) => point[1] <= top);
  if (first <= 0) return first < 0 ? points.slice(-1) : points;
  const [[x0, y0], [x1, y1]] = [points[first - 1], points[first]];
  return [[x0 + ((x1 - x0) * (y0 - top)) / (y0 - y1), top], ...points.slice(first)];
}

function endLabels(room, series, names) {
  const ends = names
    .map((name) => {
      const mine = series.filter((one) => one.name === name);
      return { name, tone: mine[0].tone, y: room.y.at(mean(mine.map((one) => one.points.at(-1)[1]))) };
    })
    .sort((a, b) => a.y - b.y);
  spreadOut(ends, 15, 24, room.bottom);
  for (const end of ends) {
    room.picture.append(
      svg(
        "text",
        { class: `${end.tone} end`, x: room.right + 6, y: end.y + 4 },
        fitted(end.name, Math.max(20, room.picture.viewBox.baseVal.width - room.right - 8), 12, true),
      ),
    );
  }
}

/** Moves labels apart so that none lies on another, as little as it takes. */
function spreadOut(labels, gap, top, bottom) {
  for (let n = 1; n < labels.length; n++) labels[n].y = Math.max(labels[n].y, labels[n - 1].y + gap);
  const over = labels.length ? labels.at(-1).y - bottom : 0;
  if (over > 0) {
    labels.at(-1).y -= over;
    for (let n = labels.length - 2; n >= 0; n--) labels[n].y = Math.min(labels[n].y, labels[n + 1].y - gap);
  }
  if (labels.length && labels[0].y < top) labels[0].y = top;
}
