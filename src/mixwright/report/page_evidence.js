/* What the proxies showed: their losses, how well the law predicts unseen ones, and the law to play with. */

function sectionRuns(section) {
  const { runs, noise } = DATA;
  if (!runs?.length) return false;
  const done = finished();
  const metrics = DATA.metrics || [...new Set(done.flatMap((run) => Object.keys(run.losses)))];
  const failed = runs.filter((run) => run.status !== "done");
  const sizes = [...new Set(done.map((run) => run.params).filter(known))];
  section.append(
    paragraph(
      `${done.length} of ${runs.length} models were trained to the end`,
      sizes.length
        ? ` (${sizes.map(scaled).join(", ")} parameters outside the embeddings, ${[...new Set(done.map((run) => scaled(run.tokens)))].join(", ")} tokens each)`
        : "",
      ". ",
      done.some((run) => Object.keys(run.unigram || {}).length)
        ? "The unigram loss is that of a model which knows only how often each token comes: a run near it has learnt frequencies and little else. "
        : "",
      noise ? "The noise is the scatter between runs of the same mixture that differ only in their seed." : "",
    ),
  );
  lossStrips(section, metrics, done);
  section.append(noiseTable(metrics, done));
  if (failed.length) {
    section.append(
      el("h3", {}, "Failed runs"),
      table(
        [
          { name: "run", words: true },
          { name: "reason", words: true },
        ],
        failed.map((run) => [run.run_id, run.reason || "no reason given"]),
      ),
    );
  }
  section.append(
    folded(
      `All ${runs.length} runs, nats/token; the unigram loss, where known, below each`,
      table(
        [
          { name: "run", words: true },
          { name: "role", words: true },
          { name: "seed" },
          { name: "objective" },
          ...metrics.map((name) => ({ name })),
        ],
        runs.map((run) => [
          run.run_id,
          run.role || MISSING,
          String(run.seed ?? MISSING),
          fixed(run.status === "done" ? objectiveOf(run.losses) : NaN),
          ...metrics.map((metric) => ({
            text: fixed(run.losses?.[metric]),
            small: known(run.unigram?.[metric]) ? fixed(run.unigram[metric]) : "",
            hint: known(run.bpb?.[metric]) ? `${fixed(run.bpb[metric])} bits/byte` : null,
          })),
        ]),
      ),
    ),
  );
  return true;
}

function lossStrips(section, metrics, done) {
  const rows = metrics.map((metric) => ({
    label: metric,
    draw: (group, x, y, height) => {
      for (const run of done) {
        const unigram = run.unigram?.[metric];
        if (known(unigram)) {
          const at = x.at(unigram);
          group.append(
            mark(
              svg("line", { class: "strip unigram", x1: at, x2: at, y1: y - height * 0.2, y2: y + height * 0.2 }),
              run.run_id,
              `${metric}: unigram ${fixed(unigram)}`,
            ),
          );
        }
      }
      for (const run of done) {
        if (!known(run.losses[metric])) continue;
        const point = SHAPES.circle(x.at(run.losses[metric]), y, 3.5);
        point.setAttribute("class", "dots");
        group.append(
          mark(
            point,
            run.run_id,
            `${metric}: loss ${fixed(run.losses[metric])}`,
            known(run.unigram?.[metric]) ? `unigram ${fixed(run.unigram[metric])}` : "",
          ),
        );
      }
    },
  }));
  const all = done.flatMap((run) => metrics.flatMap((metric) => [run.losses[metric], run.unigram?.[metric]]));
  if (!all.some(known)) return;
  const unigram = done.some((run) => Object.values(run.unigram || {}).some(known));
  figure(section, {
    title: "Loss of every run",
    words: unigram ? "Dots: the runs. Strokes: a unigram model of the same mixture." : "One dot a run.",
    key: legend([
      ["a run", (x, y) => svg("circle", { class: "dots", cx: x, cy: y, r: 3.5 })],
      ...(unigram
        ? [["unigram", (x, y) => svg("line", { class: "strip unigram", x1: x, x2: x, y1: y - 5, y2: y + 5 })]]
        : []),
    ]),
    draw: (width) => rowChart(width, { rows, domain: extent(all, 0.03), axis: "loss, nats/token" }),
    tall: rows.length > 24,
  });
}

function noiseTable(metrics, done) {
  const rows = metrics.map((metric) => {
    const designed = done
      .filter((run) => run.role !== "repeat")
      .map((run) => run.losses[metric])
      .filter(known);
    const [spread, sd] = [deviation(designed), DATA.noise?.[metric]?.sd];
    const unigram = done.map((run) => run.unigram?.[metric]).filter(known);
    return [
      metric,
      fixed(designed.length ? mean(designed) : NaN),
      fixed(unigram.length ? mean(unigram) : NaN),
      fixed(spread),
      known(sd) ? fixed(sd, 4) : "not measured",
      known(sd) ? multiple(spread, sd) : MISSING,
    ];
  });
  return table(
    [
      { name: "metric", words: true },
      { name: "mean loss" },
      { name: "mean unigram loss" },
      { name: "spread over mixtures (sd)" },
      { name: "seed noise (sd)" },
      { name: "spread / noise", hint: "near 1, the mixtures cannot be told apart on this metric" },
    ],
    rows,
    { caption: "Signal and noise, nats/token" },
  );
}

/* -- law --------------------------------------------------------------------------------------------------------- */

const FORMS = {
  nested: "the law, its form chosen in the inner folds",
  exponential: "exponential law",
  additive: "additive law",
  linear: "linear regression",
  mean: "predict the mean",
};

function sectionLaw(section) {
  const { validation } = DATA;
  if (!validation?.scores) return false;
  const forms = Object.keys(FORMS)
    .filter((form) => validation.scores[form])
    .concat(Object.keys(validation.scores).filter((form) => !FORMS[form]));
  const metrics = [...new Set(["objective", ...forms.flatMap((form) => Object.keys(validation.scores[form]))])].filter(
    (metric) => forms.some((form) => validation.scores[form][metric]),
  );
  if (!forms.length) {
    for (const sentence of validation.notes || []) section.append(note(sentence));
    return Boolean(validation.notes?.length);
  }
  section.append(
    paragraph(
      "A law predicts losses from the mixture. Here is how well it did on runs left out of the fit, ",
      `in ${validation.folds ?? "several"} folds`,
      validation.repeats > 1 ? `, repeated ${validation.repeats} times` : "",
      "; where the form itself was chosen, it was chosen inside the folds. Linear regression and predicting the mean stand beside it: a law that cannot beat them is not worth having.",
    ),
  );
  for (const sentence of validation.notes || []) section.append(note(sentence));
  const held = Object.keys(validation.held_out || {});
  const host = el("div");
  if (held.length) {
    const first = held.includes("objective") ? ["objective"] : [];
    const choices = [...new Set([...first, ...metrics.filter((metric) => held.includes(metric)), ...held])];
    const pick = chooser(
      "Metric",
      choices.map((metric) => [metric, metricName(metric)]),
      (metric) => {
        host.replaceChildren();
        scatter(host, metric, validation.held_out[metric]);
        host.append(scoreTable(forms, metric));
      },
    );
    section.append(pick, host);
  } else section.append(scoreTable(forms, metrics[0]));
  section.append(
    folded(
      "Relative error of every law on every metric",
      table(
        [
          { name: "metric", words: true },
          { name: "form used", words: true },
          ...forms.map((form) => ({ name: form, hint: FORMS[form] })),
        ],
        metrics.map((metric) => [
          metricName(metric),
          validation.chosen?.[metric] || MISSING,
          ...forms.map((form) => percent(validation.scores[form][metric]?.relative, 2)),
        ]),
      ),
    ),
  );
  return true;
}

function scoreTable(forms, metric) {
  const scores = DATA.validation.scores;
  return table(
    [
      { name: "predicts by", words: true },
      { name: "relative error", hint: "mean absolute error over the mean loss" },
      { name: "mean error, nats/token" },
      { name: "rank correlation", hint: "Spearman" },
      { name: "inside the 90 % interval", hint: "share of held-out losses; 90 % would be right" },
    ],
    forms.map((form) => {
      const score = scores[form][metric] || {};
      return [
        FORMS[form] || form,
        percent(score.relative, 2),
        fixed(score.mae, 4),
        fixed(score.spearman, 2),
        percent(score.coverage, 0),
      ];
    }),
    { caption: `Cross-validation on ${metricName(metric)}` },
  );
}

function scatter(host, metric, held) {
  const points = Object.entries(held || {}).filter(([, [measured, predicted]]) => known(measured) && known(predicted));
  if (!points.length) return;
  const noise = DATA.noise?.[metric]?.sd;
  figure(host, {
    title: `Held-out runs, ${metricName(metric)}`,
    words: "Measured against predicted loss with its 90 % interval; on the diagonal they agree.",
    draw: (width) => {
      const range = extent(
        points.flatMap(([, [m, p, h]]) => [m, p - (h || 0), p + (h || 0)]),
        0.04,
      );
      const room = plane(width, Math.max(280, Math.min(460, width * 0.62)), {
        x: range,
        y: range,
        xName: "predicted loss, nats/token",
        yName: "measured loss, nats/token",
      });
      room.picture.append(
        svg("line", {
          class: "zero dashed",
          x1: room.x.at(range[0]),
          y1: room.y.at(range[0]),
          x2: room.x.at(range[1]),
          y2: room.y.at(range[1]),
        }),
      );
      for (const [run, [measured, predicted, half]] of points) {
        const y = room.y.at(measured);
        if (known(half))
          room.picture.append(
            svg("line", {
              class: "m-optimized thin",
              x1: room.x.at(predicted - half),
              x2: room.x.at(predicted + half),
              y1: y,
              y2: y,
            }),
          );
        const point = SHAPES.circle(room.x.at(predicted), y, 4.5);
        point.setAttribute(
          "class",
          known(half) && Math.abs(measured - predicted) > half ? "m-guess point" : "m-optimized point",
        );
        room.picture.append(
          mark(
            point,
            run,
            `measured ${fixed(measured)}`,
            `predicted ${fixed(predicted)}${known(half) ? ` ± ${fixed(half)}` : ""}`,
            `error ${signed(predicted - measured)}`,
          ),
        );
      }
      return room.picture;
    },
    key: legend([
      ["inside its interval", (x, y) => svg("circle", { class: "m-optimized point", cx: x, cy: y, r: 4.5 })],
      ["outside", (x, y) => svg("circle", { class: "m-guess point", cx: x, cy: y, r: 4.5 })],
    ]),
    numbers: table(
      [
        { name: "run", words: true },
        { name: "measured" },
        { name: "predicted" },
        { name: "half of the 90 % interval" },
        { name: "error" },
      ],
      points.map(([run, [m, p, h]]) => [run, fixed(m), fixed(p), fixed(h), signed(p - m)]),
    ),
  });
  if (known(noise))
    host.append(
      note(
        `Seed noise on this metric: ${fixed(noise, 4)} nats/token (sd). No law can predict a single run more closely.`,
      ),
    );
}

/* -- try a mixture ------------------------------------------------------------------------------------------------ */

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
      "Move a weight and the others make room in proportion. The law answers at once with what it expects at the size of the runs, ",
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
    const usual = median(
      swept
        .map((one, n) =>
          Math.min(...swept.filter((other, m) => m !== n && l1(one, other) > 1e-9).map((other) => l1(one, other))),
        )
        .filter(known),
    );
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
