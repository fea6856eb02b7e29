/* What larger runs measured: predictions checked, curves, what other losses paid, and the final phase. */

function sectionVerify(section) {
  const { verify, target_metrics: targets } = DATA;
  if (!verify?.rows?.length) return false;
  const noise = verify.objective_noise;
  section.append(
    paragraph(
      `Each mixture was trained at ${verify.size} (${scaled(verify.params)} parameters outside the embeddings) on ${scaled(verify.tokens)} tokens, `,
      `with ${verify.seeds?.length === 1 ? "one seed" : `${verify.seeds?.length ?? "several"} seeds`}. What counts is the difference to the ${REFERENCE} mixture on the objective`,
      targets?.length && targets.length <= 6 ? ` (${targets.join(", ")})` : "",
      ". The prediction was made before these runs, from the small ones.",
    ),
  );
  differences(section, verify, noise);
  section.append(verifyTable(verify, noise));
  section.append(
    el(
      "ul",
      { class: "verdicts" },
      verify.rows
        .filter((row) => row.verdict)
        .map((row) => el("li", {}, el("strong", {}, row.mixture), `: ${row.verdict}`)),
    ),
  );
  return true;
}

function differences(section, verify, noise) {
  const compared = verify.rows.filter((row) => row.measured || row.predicted);
  if (!compared.length) return;
  const rows = compared.map((row) => ({
    label: row.mixture,
    side: row.measured ? signed(row.measured.value) : MISSING,
    draw: (group, x, y) => {
      const [tone, shape] = look(row.mixture);
      if (row.predicted)
        drawInterval(group, x, y - 8, row.predicted, {
          tone,
          shape,
          hollow: true,
          tip: [row.mixture, `predicted ${interval(row.predicted)}`],
        });
      if (row.measured)
        drawInterval(group, x, y + 8, row.measured, {
          tone,
          shape,
          tip: [row.mixture, `measured ${interval(row.measured)}`],
        });
    },
  }));
  // half of the measured intervals: a difference closer to zero than that is a tie
  const halves = compared.map((row) => row.measured && (row.measured.high - row.measured.low) / 2).filter(known);
  const reach = known(noise) && halves.length ? median(halves) : null;
  figure(section, {
    title: `Difference to ${REFERENCE}`,
    words:
      "Above, hollow: predicted. Below, filled: measured. Whiskers hold 90 %; left of zero is better." +
      (reach ? " Inside the shaded band a difference is noise." : ""),
    draw: (width) =>
      rowChart(width, {
        rows,
        height: 46,
        zero: 0,
        axis: `objective minus ${REFERENCE}'s, nats/token`,
        head: "measured",
        band: reach
          ? {
              low: -reach,
              high: reach,
              tip: ["noise", `two equal mixtures differ by up to ${fixed(reach, 4)} in 90 % of comparisons`],
            }
          : null,
        domain: extent(
          [
            0,
            ...compared
              .flatMap((row) => [row.predicted, row.measured])
              .filter(Boolean)
              .flatMap((v) => [v.low, v.high, v.value]),
          ],
          0.07,
        ),
      }),
  });
}

function verifyTable(verify, noise) {
  return table(
    [
      { name: "mixture", words: true },
      { name: "predicted" },
      { name: "measured" },
      { name: "× noise", hint: "measured difference over the seed noise of the objective" },
      { name: "rank predicted" },
      { name: "rank measured" },
      { name: `steps to ${REFERENCE}'s final loss` },
      { name: "objective, nats/token" },
    ],
    verify.rows.map((row) =>
      [
        row.mixture,
        intervalCell(row.predicted),
        row.measured ? intervalCell(row.measured) : "reference",
        row.measured ? multiple(row.measured.value, noise) : MISSING,
        row.rank_predicted ?? MISSING,
        row.rank_measured ?? MISSING,
        known(row.steps_share) ? percent(row.steps_share, 0) : "never",
        fixed(objectiveOf(row.losses || {})),
      ].map((cell) => (typeof cell === "number" ? String(cell) : cell)),
    ),
    {
      caption: `Difference to ${REFERENCE}, nats/token, with 90 % intervals; seed noise ${known(noise) ? `${fixed(noise, 4)} (sd)` : "not measured"}`,
    },
  );
}

function sectionCurves(section) {
  const { verify } = DATA;
  const found = (verify?.trajectories || []).filter((one) => one.points?.length > 1);
  if (!found.length) return false;
  section.append(
    paragraph(
      `Loss on the objective while the larger models train, one line per seed. Where a line crosses the dashed one, that mixture has reached what the ${REFERENCE} mixture needs the whole run for. At its end the learning rate has fully decayed, at the crossing it has not yet, so this understates the gain.`,
    ),
  );
  const finals = found.filter((one) => one.mixture === REFERENCE).map((one) => one.points.at(-1)[1]);
  const level = finals.length ? mean(finals) : null;
  const tokens = Math.max(...found.map((one) => one.points.at(-1)[0]));
  const ends = found.map((one) => one.points.at(-1)[1]);
  const early = found.map((one) => one.points.find(([at]) => at >= 0.12 * tokens)?.[1]).filter(known);
  const [low, high] = [Math.min(...ends), Math.max(...early, ...ends)];
  const crossings = verify.rows
    .filter((row) => row.mixture !== REFERENCE && known(row.steps_share) && row.steps_share < 1 && known(level))
    .map((row) => ({
      x: row.steps_share * tokens,
      y: level,
      tone: look(row.mixture)[0],
      tip: [row.mixture, `reaches ${REFERENCE}'s final loss after ${percent(row.steps_share, 0)} of the steps`],
    }));
  figure(section, {
    title: "Training curves",
    words: `${known(level) ? `Dashed: ${REFERENCE}'s final loss, ${fixed(level)}. ` : ""}The start is cut off at the top so that the ends can be told apart.`,
    draw: (width) =>
      lineChart(width, {
        series: found.map((one) => ({
          name: one.mixture,
          tone: look(one.mixture)[0],
          points: one.points,
          tip: [`${one.mixture}, seed ${one.seed}`, `ends at ${fixed(one.points.at(-1)[1])}`],
        })),
        lines: known(level)
          ? [{ y: level, label: `${REFERENCE}'s final loss, ${fixed(level)}`, tone: "m-natural" }]
          : [],
        crossings,
        xName: "training tokens",
        yName: "objective, nats/token",
        xFormat: scaled,
        y: [low - (high - low) * 0.06, high],
      }),
    numbers: table(
      [
        { name: "mixture", words: true },
        { name: "seed" },
        { name: "final objective" },
        { name: `steps to ${REFERENCE}'s final loss` },
      ],
      found.map((one) => [
        one.mixture,
        String(one.seed),
        fixed(one.points.at(-1)[1], 4),
        percent(verify.rows.find((row) => row.mixture === one.mixture)?.steps_share, 0),
      ]),
    ),
  });
  return true;
}

/* -- other losses --------------------------------------------------------------------------------------------------- */

function sectionOthers(section) {
  const { verify } = DATA;
  const base = verify?.rows?.find((row) => row.mixture === REFERENCE);
  const others = (verify?.rows || []).filter((row) => row.mixture !== REFERENCE && row.losses);
  if (!base?.losses || !others.length) return false;
  section.append(
    paragraph(
      `A mixture that helps its targets takes text away from something else. Each cell is the difference to the ${REFERENCE} mixture; below it, how many times the seed noise that is. Below about 2× it means little.`,
    ),
  );
  const host = el("div");
  const units = [["losses", "nats/token"], ...(Object.keys(base.bpb || {}).length ? [["bpb", "bits/byte"]] : [])];
  section.append(
    chooser("Unit", units, (unit) => host.replaceChildren(heatTable(unit, base, others))),
    host,
  );
  return true;
}

function heatTable(unit, base, others) {
  const targets = new Set(DATA.target_metrics || []);
  const metrics = Object.keys(base[unit]).sort((a, b) => targets.has(b) - targets.has(a));
  const gap = (row, metric) => (row[unit]?.[metric] ?? NaN) - base[unit][metric];
  const largest = Math.max(...others.flatMap((row) => metrics.map((metric) => Math.abs(gap(row, metric)) || 0))) || 1;
  const perUnit = (metric) => (unit === "losses" ? 1 : base.bpb[metric] / base.losses[metric]); // bits/byte per nat/token
  return table(
    [
      { name: "metric", words: true },
      { name: REFERENCE },
      ...others.map((row) => ({ name: row.mixture })),
      { name: "noise (sd)" },
    ],
    metrics.map((metric) => {
      const sd = DATA.verify.noise?.[metric];
      const noise = known(sd) ? sd * perUnit(metric) : NaN;
      return [
        { text: metric, small: targets.has(metric) ? "target" : "" },
        fixed(base[unit][metric]),
        ...others.map((row) => ({
          text: signed(gap(row, metric)),
          small: known(noise) ? multiple(gap(row, metric), noise) : "",
          tint: Math.sign(gap(row, metric)) * Math.sqrt(Math.abs(gap(row, metric)) / largest),
        })),
        fixed(noise, 4),
      ];
    }),
    {
      caption: `Difference to ${REFERENCE}, ${unit === "losses" ? "nats/token" : "bits/byte"}; blue is lower, orange is higher`,
    },
  );
}

/* -- final phase ------------------------------------------------------------------------------------------------------ */

function sectionFinal(section) {
  const final = DATA.final_phase;
  if (!final?.rows?.length) return false;
  section.append(
    paragraph(
      `From one checkpoint after ${percent(final.start, 0)} of training, one branch went on as before and one trained the rest on an upsampled mixture, with the same learning rates and the same seed. `,
      "The bars show what each loss gained (left) or paid (right) by it",
      final.seeds > 1 ? `, as means over ${final.seeds} seeds.` : ".",
    ),
  );
  finalBars(section, final);
  finalCurves(section, final);
  if (DATA.domains && final.weights) {
    section.append(
      folded(
        "The two mixtures of the last part",
        table(
          [{ name: "domain", words: true }, { name: "continued" }, { name: "upsampled" }, { name: "factor" }],
          DATA.domains.map((domain, n) => [
            domain,
            percent(final.base?.[n]),
            percent(final.weights[n]),
            final.base?.[n] ? `${fixed(final.weights[n] / final.base[n], 2)}×` : MISSING,
          ]),
        ),
      ),
    );
  }
  return true;
}

function finalBars(section, final) {
  const sorted = [...final.rows].sort(
    (a, b) => (b.kind === "target") - (a.kind === "target") || a.difference - b.difference,
  );
  const noises = sorted.map((row) => row.noise).filter(known);
  const reach = noises.length ? Z90 * Math.SQRT2 * median(noises) : null;
  const rows = sorted.map((row) => ({
    label: row.metric,
    strong: row.kind === "target",
    side: `${signed(row.difference)} · ${multiple(row.difference, row.noise)} noise`,
    draw: (group, x, y, height) =>
      group.append(
        mark(
          bar(x, 0, row.difference, { y, height, tone: `${row.difference < 0 ? "gain-bar" : "dear-bar"} area` }),
          row.metric,
          `upsampled ${fixed(row.upsampled)}, continued ${fixed(row.continued)}`,
          `difference ${signed(row.difference)} (${multiple(row.difference, row.noise)} the noise)`,
        ),
      ),
  }));
  figure(section, {
    title: "What the final phase changed",
    words: `Targets first.${reach ? " Inside the shaded band a difference is noise." : ""}`,
    key: legend([
      ["gained", swatch("gain-bar")],
      ["paid", swatch("dear-bar")],
    ]),
    draw: (width) =>
      rowChart(width, {
        rows,
        domain: extent([0, ...sorted.map((row) => row.difference)], 0.06),
        zero: 0,
        axis: "upsampled minus continued, nats/token",
        head: "difference",
        band: reach
          ? {
              low: -reach,
              high: reach,
              tip: ["noise", `two equal branches differ by up to ${fixed(reach, 4)} in 90 % of comparisons`],
            }
          : null,
      }),
    numbers: table(
      [
        { name: "metric", words: true },
        { name: "continued" },
        { name: "upsampled" },
        { name: "difference" },
        { name: "noise (sd)" },
        { name: "× noise" },
      ],
      sorted.map((row) => [
        row.metric,
        fixed(row.continued),
        fixed(row.upsampled),
        signed(row.difference),
        fixed(row.noise, 4),
        multiple(row.difference, row.noise),
      ]),
    ),
    tall: rows.length > 24,
  });
}

function finalCurves(section, final) {
  const found = (final.trajectories || []).filter((one) => one.points?.length > 1);
  if (!found.length) return;
  const tones = { continued: "m-natural", upsampled: "m-optimized" };
  const values = found.flatMap((one) => one.points.map((point) => point[1]));
  figure(section, {
    title: "The two branches",
    words: `Loss on the objective from the switch at ${scaled(final.switch_tokens)} tokens on.`,
    draw: (width) =>
      lineChart(width, {
        series: found.map((one) => ({
          name: one.branch,
          tone: tones[one.branch] || "m-guess",
          points: one.points,
          tip: [one.branch, `ends at ${fixed(one.points.at(-1)[1])}`],
        })),
        xName: "training tokens",
        yName: "objective, nats/token",
        xFormat: scaled,
        y: extent(values, 0.06),
      }),
    numbers: table(
      [{ name: "branch", words: true }, { name: "training tokens" }, { name: "objective, nats/token" }],
      found.flatMap((one) => one.points.map(([at, loss]) => [one.branch, whole(at), fixed(loss, 4)])),
    ),
  });
}
