/* Try a mixture: sliders, and what the law expects of what they say. */

function sectionTry(section) {
  const { fit, domains, mixtures } = DATA;
  if (!fit?.graph || !domains) return false;
  const even = domains.map(() => 1 / domains.length);
  const reference = mixtures?.[REFERENCE] || even;
  const start = mixtures?.optimized || reference;
  const name = mixtures?.[REFERENCE] ? REFERENCE : "uniform";
  const base = predictLosses(fit, reference);
  const trial = { weights: [...start], base, reference };
  section.append(
    paragraph(
      "Move a weight and the others make room in proportion. The law answers at once with what it expects ",
      `at ${trialPlace()}, `,
      `as the difference to the ${name} mixture, with its 90 % interval.`,
    ),
  );
  const view = tryControls(section, trial);
  const numbers = el("div");
  const chart = figure(section, {
    title: "Predicted change",
    words: `Left of zero is better than ${name}.`,
    draw: (width) => drawTrial(width, trial, numbers),
    numbers,
    tall: fit.metrics.length > 20,
  });
  view.changed = () => requestAnimationFrame(chart.redraw);
  return true;
}

function tryControls(section, trial) {
  const { domains, mixtures } = DATA;
  const view = { changed: () => {} };
  const warning = el("p", { class: "note", role: "status" });
  const sliders = domains.map((domain, n) => {
    const output = el("output", {});
    const input = el("input", { type: "range", min: "0", max: "1000", step: "1", "aria-label": `weight of ${domain}` });
    // square-root sliders, so that small weights can be set as easily as large ones
    input.addEventListener("input", () => {
      trial.weights = moved(trial.weights, n, (input.value / 1000) ** 2);
      show(n);
    });
    return {
      node: el("label", { class: "slider" }, el("span", { title: domain }, domain), input, output),
      input,
      output,
    };
  });
  const show = (held = -1) => {
    sliders.forEach(({ input, output }, n) => {
      if (n !== held) input.value = String(Math.round(Math.sqrt(trial.weights[n]) * 1000));
      output.textContent = percent(trial.weights[n]);
      input.setAttribute("aria-valuetext", percent(trial.weights[n]));
    });
    warning.textContent = trialWarning(trial.weights);
    view.changed();
  };
  const buttons = Object.keys(mixtures || {})
    .filter((name) => mixtures[name])
    .map((name) =>
      el(
        "button",
        {
          type: "button",
          onclick: () => {
            trial.weights = [...mixtures[name]];
            trial.range = null;
            show();
          },
        },
        name,
      ),
    );
  section.append(
    el("div", { class: "buttons" }, "Start from: ", buttons),
    el(
      "div",
      { class: domains.length > 16 ? "sliders tall" : "sliders" },
      sliders.map((slider) => slider.node),
    ),
    warning,
  );
  show();
  return view;
}

/** The mixture with one weight set; the others keep their proportions. */
function moved(weights, at, value) {
  const others = sum(weights) - weights[at];
  return weights.map((weight, n) => {
    if (n === at) return weights.length === 1 ? 1 : value;
    return others > 1e-12 ? (weight * (1 - value)) / others : (1 - value) / (weights.length - 1);
  });
}

/** The size and tokens that predictions hold for. */
function trialPlace() {
  const found = (DATA.recipe?.forecasts || []).find((one) => known(one.params) || known(one.tokens));
  const words = [
    known(found?.params) ? `${scaled(found.params)} parameters` : "",
    known(found?.tokens) ? `${scaled(found.tokens)} tokens` : "",
  ].filter(Boolean);
  return words.length ? words.join(" and ") : "the size of the runs";
}

let usualApart = null; // how far swept mixtures lie from their nearest neighbours, found once

function nearestOther(one, swept) {
  let least = Infinity;
  for (const other of swept) {
    const apart = l1(one, other);
    if (apart > 1e-9 && apart < least) least = apart;
  }
  return Number.isFinite(least) ? least : NaN;
}

/** Where this mixture leaves what was swept or what is allowed; empty where it does not. */
function trialWarning(weights) {
  const { domains, bounds } = DATA;
  const words = [];
  const swept =
    DATA.fit.swept ||
    finished()
      .map((run) => run.weights)
      .filter(Boolean);
  if (swept.length > 2) {
    const nearest = Math.min(...swept.map((other) => l1(weights, other)));
    usualApart ??= median(swept.map((one) => nearestOther(one, swept)).filter(known));
    const usual = usualApart;
    if (nearest > 1.5 * usual)
      words.push(
        `This lies outside what was swept (L1 distance ${fixed(nearest, 2)} to the nearest mixture; swept ones are ${fixed(usual, 2)} apart): the law is guessing here.`,
      );
  }
  const beyond = domains.filter(
    (_, n) => known(bounds?.low?.[n]) && (weights[n] < bounds.low[n] - 1e-4 || weights[n] > bounds.high[n] + 1e-4),
  );
  if (beyond.length)
    words.push(
      `Not allowed by the study's floors, ceilings or epoch caps: ${beyond.slice(0, 6).join(", ")}${beyond.length > 6 ? " and others" : ""}.`,
    );
  return words.join(" ");
}

function drawTrial(width, trial, numbers) {
  const { fit } = DATA;
  const here = predictLosses(fit, trial.weights);
  const apart = l1(trial.weights, trial.reference);
  const rows = [
    ["objective", objectiveWeights(fit.metrics)],
    ...fit.metrics.map((metric, n) => [metric, fit.metrics.map((_, m) => (m === n ? 1 : 0))]),
  ].map(([metric, weights]) => {
    const { mean: value, spread } = lossDifference(fit, here, trial.base, apart, weights);
    const values = { value, low: value - Z90 * spread, high: value + Z90 * spread };
    const level =
      metric === "objective" ? sum(fit.metrics.map((name, n) => weights[n] * here[name].mean)) : here[metric].mean;
    return { metric, values, level, target: metric === "objective" || (DATA.target_metrics || []).includes(metric) };
  });
  numbers.replaceChildren(
    table(
      [{ name: "metric", words: true }, { name: "change" }, { name: "90 % interval" }, { name: "predicted loss" }],
      rows.map(({ metric, values, level }) => [
        metricName(metric),
        signed(values.value),
        `${signed(values.low)} to ${signed(values.high)}`,
        fixed(level),
      ]),
    ),
  );
  // the axis only ever grows while weights move, so that the eye has something to hold on to
  const [low, high] = extent([0, ...rows.flatMap(({ values }) => [values.low, values.high])]);
  trial.range = trial.range ? [Math.min(low, trial.range[0]), Math.max(high, trial.range[1])] : [low, high];
  return rowChart(width, {
    rows: rows.map(({ metric, values, level, target }) => ({
      label: metricName(metric),
      strong: metric === "objective",
      side: `${signed(values.value)} → ${fixed(level)}`,
      draw: (group, x, y) =>
        drawInterval(group, x, y, values, {
          tone: target ? "m-optimized" : "m-natural",
          r: metric === "objective" ? 6.5 : 5,
          tip: [metricName(metric), `change ${interval(values)}`, `predicted loss ${fixed(level)}`],
        }),
    })),
    domain: trial.range,
    zero: 0,
    axis: "change of the loss, nats/token",
    head: "change → predicted loss",
  });
}
