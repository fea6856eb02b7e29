/* What the proxies showed: their losses, and how well the law predicts unseen ones. */

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
