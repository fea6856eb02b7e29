/* The mixtures: what was designed, what is allowed, what did best; and the weights of the objective. */

const DOMAIN_TONES = 8; // colours for domains; the others share one grey

const finished = () => (DATA.runs || []).filter((run) => run.status === "done");

/** Weights of the objective over the metrics of the table, summing to one. */
function objectiveWeights(metrics) {
  const given =
    DATA.metric_weights && Object.keys(DATA.metric_weights).length ? DATA.metric_weights : DATA.objective?.metrics;
  const raw = metrics.map((metric) => (given && Object.keys(given).length ? given[metric] || 0 : 1));
  const total = sum(raw) || 1;
  return raw.map((value) => value / total);
}

function objectiveOf(losses) {
  const metrics = DATA.metrics || Object.keys(losses);
  const weights = objectiveWeights(metrics);
  const parts = metrics.map((metric, n) => (weights[n] ? weights[n] * losses[metric] : 0));
  return parts.every(known) ? sum(parts) : NaN;
}

function sectionMixtures(section) {
  const { mixtures, domains, runs } = DATA;
  const names = Object.keys(mixtures || {}).filter((name) => mixtures[name]);
  if (!domains || (!names.length && !runs?.length)) return false;
  const designed = (runs || []).filter((run) => run.weights && run.role !== "repeat");
  section.append(
    paragraph(
      runs?.length ? `Models were trained on ${designed.length} designed mixtures. ` : "",
      "A mixture gives each domain a weight: the fraction of training tokens drawn from it.",
    ),
  );
  mixtureStrips(section, names, designed);
  if (runs?.length) mixtureBars(section);
  optimumReasons(section);
  return true;
}

/** Why the optimized mixture: what it gains over others, what the limits cost, and how good it is proven to be. */
function optimumReasons(section) {
  const { optimum, domains, mixtures } = DATA;
  if (!optimum?.gain) return;
  const rows = [
    { ...optimum.gain, reference: REFERENCE },
    ...(optimum.contrasts || []).filter((row) => row.reference !== REFERENCE),
  ];
  section.append(
    table(
      [
        { name: "against", words: true },
        { name: "difference", hint: "of the predicted objective, with its 90 % interval; below zero the optimized mixture is better" },
        { name: "can these runs tell?", words: true },
      ],
      rows.map((row) => [
        row.reference === "worst" ? "the worst allowed mixture" : row.reference,
        intervalCell(row),
        row.high < 0 ? "yes, better" : row.low > 0 ? "yes, worse" : "no",
      ]),
      { caption: "The optimized mixture against others, nats/token of the objective" },
    ),
  );
  const prices = [...(optimum.prices || [])].sort((a, b) => Math.abs(b.price) - Math.abs(a.price));
  if (prices.length)
    section.append(
      paragraph("What the limits cost, the dearest first:"),
      el(
        "ul",
        { class: "verdicts" },
        prices.map((price) => el("li", {}, price.words)),
      ),
    );
  if (optimum.certificate) section.append(paragraph(optimum.certificate));
  const ranges = optimum.ranges || {};
  if (domains?.some((domain) => ranges[domain]))
    section.append(
      folded(
        "What else is as good, and the worst mixture",
        table(
          [
            { name: "domain", words: true },
            { name: "optimized" },
            { name: "as good", hint: "weights of mixtures within half the seed noise, the other domains adapting" },
            { name: "worst allowed" },
          ],
          domains.map((domain, n) => [
            domain,
            percent(mixtures?.optimized?.[n]),
            ranges[domain] ? `${percent(Math.max(0, ranges[domain][0]))} to ${percent(ranges[domain][1])}` : MISSING,
            percent(optimum.worst?.[domain] ?? 0),
          ]),
        ),
      ),
    );
}

function mixtureStrips(section, names, designed) {
  const { mixtures, domains, bounds } = DATA;
  const all = [...designed.map((run) => run.weights), ...names.map((name) => mixtures[name])];
  const highest = Math.max(...all.flat());
  const rows = domains.map((domain, n) => ({
    label: domain,
    draw: (group, x, y, height) => {
      const [low, high] = [bounds?.low?.[n], bounds?.high?.[n]];
      if (known(low) && known(high)) {
        const allowed = bar(x, low, Math.min(high, highest), { y, height, tone: "band", thick: 0.68 });
        group.append(mark(allowed, domain, `allowed: ${percent(low)} to ${percent(high)}`));
      }
      for (const run of designed) {
        const at = x.at(run.weights[n]);
        group.append(
          mark(
            svg("line", {
              class: run.status === "done" ? "strip" : "strip failed",
              x1: at,
              x2: at,
              y1: y - height * 0.26,
              y2: y + height * 0.26,
            }),
            run.run_id,
            `${domain} ${percent(run.weights[n])}`,
            run.status === "done" ? "" : "failed",
          ),
        );
      }
      for (const name of names)
        group.append(
          mark(mixturePoint(name, x.at(mixtures[name][n]), y), name, `${domain} ${percent(mixtures[name][n])}`),
        );
    },
  }));
  figure(section, {
    title: "Weights",
    words:
      "Each stroke is the weight a designed mixture gives the domain; the shaded part is what floors, ceilings and epoch caps allow.",
    key: mixtureLegend(names),
    draw: (width) =>
      rowChart(width, {
        rows,
        domain: [0, highest * 1.02],
        axis: "weight (square-root axis)",
        format: (tick) => percent(tick, 0),
        root: true,
        height: 28,
      }),
    numbers: table(
      [
        { name: "domain", words: true },
        ...names.map((name) => ({ name })),
        { name: "allowed" },
        { name: "designed, least" },
        { name: "designed, most" },
      ],
      domains.map((domain, n) => {
        const seen = designed.map((run) => run.weights[n]);
        return [
          domain,
          ...names.map((name) => percent(mixtures[name][n])),
          bounds?.low ? `${percent(bounds.low[n])} to ${percent(bounds.high[n])}` : MISSING,
          seen.length ? percent(Math.min(...seen)) : MISSING,
          seen.length ? percent(Math.max(...seen)) : MISSING,
        ];
      }),
    ),
    tall: rows.length > 20,
  });
}

/** Every swept mixture as a bar, the best for the objective at the top. */
function mixtureBars(section) {
  const { domains } = DATA;
  const runs = finished()
    .filter((run) => run.weights && run.role !== "repeat")
    .map((run) => ({ ...run, value: objectiveOf(run.losses) }))
    .filter((run) => known(run.value))
    .sort((a, b) => a.value - b.value);
  if (runs.length < 2) return;
  const weight = domains.map((_, n) => mean(runs.map((run) => run.weights[n])));
  const largest = domains
    .map((_, n) => n)
    .sort((a, b) => weight[b] - weight[a])
    .slice(0, domains.length > DOMAIN_TONES ? DOMAIN_TONES - 1 : DOMAIN_TONES);
  const colours = new Map([...largest].sort((a, b) => a - b).map((n, at) => [n, `d${at}`]));
  const rest = domains.map((_, n) => n).filter((n) => !colours.has(n));
  const rows = runs.map((run) => ({
    label: run.run_id,
    side: fixed(run.value),
    draw: (group, x, y, height) => {
      let at = 0;
      const piece = (share, tone, ...tip) => {
        if (share <= 0) return;
        const shape = { y, height, tone: `${tone} area`, thick: 0.72, gap: 1 };
        group.append(mark(bar(x, at, at + share, shape), ...tip));
        at += share;
      };
      for (const [n, tone] of colours)
        piece(
          run.weights[n],
          tone,
          run.run_id,
          `${domains[n]} ${percent(run.weights[n])}`,
          `objective ${fixed(run.value)}`,
        );
      piece(sum(rest.map((n) => run.weights[n])), "others", run.run_id, `${rest.length} other domains`);
    },
  }));
  figure(section, {
    title: "Swept mixtures, best first",
    words: "Sorted by the loss measured on the objective: what the upper bars have in common is what helps.",
    key: legend([
      ...[...colours].map(([n, tone]) => [domains[n], swatch(tone)]),
      ...(rest.length ? [[`${rest.length} others`, swatch("others")]] : []),
    ]),
    draw: (width) =>
      rowChart(width, {
        rows,
        domain: [0, 1],
        axis: "weight",
        format: (tick) => percent(tick, 0),
        height: 20,
        head: "objective, nats/token",
      }),
    numbers: table(
      [{ name: "run", words: true }, { name: "objective" }, ...domains.map((name) => ({ name }))],
      runs.map((run) => [run.run_id, fixed(run.value), ...run.weights.map((value) => percent(value))]),
    ),
    tall: rows.length > 30,
  });
}
