/* What there was to learn from: the answer at the top, sources and what was dropped, the corpus. */

/** The answer drawn: each domain's weight in the natural mixture and in the one to use. */
function drawAnswer(parent) {
  const { mixtures, domains } = DATA;
  const best =
    mixtures?.optimized ||
    (DATA.recipe?.phases?.[0] && domains?.map((name) => DATA.recipe.phases[0].weights[name] ?? 0));
  if (!best || !domains) return;
  const before = REFERENCE && mixtures?.[REFERENCE];
  const order = domains.map((_, n) => n).sort((a, b) => best[b] - best[a]);
  const shown = order.slice(0, 14);
  const epochs = DATA.recipe?.epochs || {};
  const rows = shown.map((n) => ({
    label: domains[n],
    side: percent(best[n]) + (known(epochs[domains[n]]) ? ` · ${fixed(epochs[domains[n]], 2)} epochs` : ""),
    draw: (group, x, y) => {
      if (before) {
        const ends = { x1: x.at(before[n]), x2: x.at(best[n]), y1: y, y2: y };
        group.append(svg("line", { class: "m-optimized whisker", ...ends }));
        group.append(
          mark(mixturePoint(REFERENCE, x.at(before[n]), y), domains[n], `${REFERENCE} ${percent(before[n])}`),
        );
      }
      group.append(mark(mixturePoint("optimized", x.at(best[n]), y), domains[n], `optimized ${percent(best[n])}`));
    },
  }));
  const highest = Math.max(...best, ...(before || []));
  figure(parent, {
    title: "The optimized mixture",
    words:
      `Weight of each domain in training tokens${before ? `, from ${REFERENCE} to optimized` : ""}.` +
      (order.length > shown.length ? ` The ${shown.length} largest of ${order.length} domains.` : ""),
    key: mixtureLegend(before ? [REFERENCE, "optimized"] : ["optimized"]),
    draw: (width) =>
      rowChart(width, { rows, domain: [0, highest * 1.02], axis: "weight", format: (tick) => percent(tick, 0) }),
    numbers: table(
      [
        { name: "domain", words: true },
        ...(before ? [{ name: REFERENCE }] : []),
        { name: "optimized" },
        { name: "epochs" },
      ],
      order.map((n) => [
        domains[n],
        ...(before ? [percent(before[n])] : []),
        percent(best[n]),
        fixed(epochs[domains[n]], 2),
      ]),
    ),
  });
}

/* -- sources --------------------------------------------------------------------------------------------------- */

function sectionSources(section) {
  const { sources, targets, rules, samples } = DATA;
  if (!sources?.length) return false;
  const all = [...sources, ...(targets || [])];
  const order = ruleOrder(all);
  const [read, kept] = [sum(all.map((row) => row.read.documents)), sum(all.map((row) => row.kept.documents))];
  const dropped = sum(all.map((row) => sum(Object.values(row.first_dropped || {}))));
  section.append(
    paragraph(
      `Of ${whole(read)} documents, ${whole(kept)} were kept and ${whole(dropped)} dropped. `,
      read === kept + dropped
        ? "The sum holds for every rule and every source; each dropped document stands in the ledger with all the rules it failed."
        : el("strong", { class: "caution" }, "These do not add up; do not trust this table."),
    ),
  );
  const first = (rule) => sum(all.map((row) => row.first_dropped?.[rule] || 0));
  const used = order.filter((rule) => first(rule) > 0);
  const large = [...used].sort((a, b) => first(b) - first(a)).slice(0, used.length > COLOURS ? COLOURS - 1 : COLOURS);
  const coloured = used.filter((rule) => large.includes(rule)); // few enough for a colour each
  funnel(section, "Training sources", sources, coloured, used);
  if (targets?.length) {
    const run = (rules || []).map((rule) => /^shares_(\d+)gram$/.exec(rule.rule)?.[1]).find(Boolean) || "13";
    section.append(
      paragraph(
        `Targets are never trained on. Documents that share a run of ${run} words with any training text were removed from them.`,
      ),
    );
    funnel(section, "Targets", targets, coloured, used);
  }
  drawStages(section, all);
  drawRules(section, all, order);
  drawOverlap(section, all, order);
  drawDuplicates(section);
  for (const [vote, told] of Object.entries(DATA.agreement || {}))
    section.append(folded(`How the scorers of ${vote} agree`, agreementTable(vote, told)));
  if (rules?.length) section.append(folded("The rules, and where their thresholds are from", rulesTable(rules, all, order)));
  if (samples?.length) section.append(folded("Some of what was dropped", ...samplesByRule(samples, order)));
  return true;
}

/** The stages of several sources added up: rows [{rule, entering, dropped}], the last what is left. */
function stagesOf(sources) {
  const listed = sources.map((source) => source.stages).filter((stages) => stages?.length);
  if (!listed.length) return [];
  return listed[0].map((stage, n) => {
    const total = (part, key) => sum(listed.map((stages) => stages[n][part][key] || 0));
    return {
      rule: stage.rule,
      entering: { documents: total("entering", "documents"), bytes: total("entering", "bytes") },
      dropped: { documents: total("dropped", "documents"), bytes: total("dropped", "bytes") },
      median: listed.length === 1 ? stage.entering.median_bytes : null,
    };
  });
}

/** What every stage leaves, of all sources or of one. */
function drawStages(section, all) {
  const counted = all.filter((source) => source.stages?.length);
  if (!counted.length) return;
  let shown = counted;
  const numbers = el("div");
  const rowsOf = (stages) =>
    stages.filter((stage, n) => n === 0 || stage.dropped.documents > 0 || n === stages.length - 1);
  const drawing = figure(section, {
    title: "Stage by stage",
    words: "Documents that enter a stage; the part in colour leaves there, at the first rule it fails.",
    key: legend([
      ["stay", swatch("kept")],
      ["leave here", swatch("r2")],
    ]),
    draw: (width) => {
      const stages = stagesOf(shown);
      const rows = rowsOf(stages).map((stage) => ({
        label: stage.rule,
        side: stage.rule === "kept" ? whole(stage.entering.documents) : `−${whole(stage.dropped.documents)}`,
        draw: (group, x, y, height) => {
          const left = stage.entering.documents - stage.dropped.documents;
          const of = stage.entering.documents || 1;
          const shape = { y, height, gap: 1 };
          const told = known(stage.median) ? `median length ${scaled(stage.median)}B where it enters` : "";
          group.append(
            mark(
              bar(x, 0, left, { ...shape, tone: "kept area" }),
              stage.rule,
              `${whole(left)} documents stay (${percent(left / of)})`,
              `${scaled(stage.entering.bytes - stage.dropped.bytes)}B of text`,
              told,
            ),
          );
          if (stage.dropped.documents)
            group.append(
              mark(
                bar(x, left, stage.entering.documents, { ...shape, tone: "r2 area" }),
                stage.rule,
                `${whole(stage.dropped.documents)} documents leave (${percent(stage.dropped.documents / of)})`,
                `${scaled(stage.dropped.bytes)}B of text`,
              ),
            );
        },
      }));
      return rowChart(width, {
        rows,
        domain: [0, Math.max(1, stages[0].entering.documents) * 1.01],
        axis: "documents",
        format: scaled,
        head: "leave",
      });
    },
    numbers,
    tall: rowsOf(stagesOf(counted)).length > 24,
  });
  const choices = [["", "all sources and targets"], ...counted.map((source) => [source.name, source.name])];
  const choose = chooser("Stages of", counted.length > 1 ? choices : choices.slice(1), (name) => {
    shown = name ? counted.filter((source) => source.name === name) : counted;
    numbers.replaceChildren(stagesTable(stagesOf(shown)));
    drawing.redraw();
  });
  drawing.node.querySelector(".drawing").before(choose);
}

function stagesTable(stages) {
  return table(
    [
      { name: "stage", words: true },
      { name: "documents entering" },
      { name: "bytes entering" },
      { name: "median length", hint: "bytes of text, within 6 %" },
      { name: "documents leaving" },
      { name: "bytes leaving" },
    ],
    stages.map((stage) => [
      stage.rule,
      whole(stage.entering.documents),
      `${scaled(stage.entering.bytes)}B`,
      known(stage.median) ? `${scaled(stage.median)}B` : MISSING,
      whole(stage.dropped.documents),
      `${scaled(stage.dropped.bytes)}B`,
    ]),
  );
}

/** How many documents each rule fails, and how many would come back without it. */
function drawRules(section, all, order) {
  const count = (key, rule) => sum(all.map((row) => row[key]?.[rule] || 0));
  const failing = order.filter((rule) => count("dropped", rule) > 0).sort((a, b) => count("dropped", b) - count("dropped", a));
  if (!failing.length || !all.some((row) => row.alone)) return;
  figure(section, {
    title: "Each rule by itself",
    words: "Documents that fail it, whatever else they fail; in strong colour those that fail nothing else and would be kept without it.",
    key: legend([
      ["fail it", swatch("others")],
      ["fail it alone", swatch("r2")],
    ]),
    draw: (width) =>
      rowChart(width, {
        rows: failing.map((rule) => ({
          label: rule,
          side: `${whole(count("dropped", rule))} · ${whole(count("alone", rule))}`,
          draw: (group, x, y, height) => {
            const [every, alone] = [count("dropped", rule), count("alone", rule)];
            const tip = [`${whole(every)} documents fail it`, `${whole(alone)} of them nothing else (${percent(alone / every)})`];
            group.append(mark(bar(x, 0, every, { y, height, tone: "others area" }), rule, ...tip));
            if (alone) group.append(mark(bar(x, 0, alone, { y, height, tone: "r2 area" }), rule, ...tip));
          },
        })),
        domain: [0, count("dropped", failing[0]) * 1.01],
        axis: "documents",
        format: scaled,
        head: "fail it · alone",
      }),
    numbers: table(
      [{ name: "rule", words: true }, { name: "fail it" }, { name: "first failed here" }, { name: "fail nothing else" }],
      failing.map((rule) => [
        rule,
        whole(count("dropped", rule)),
        whole(count("first_dropped", rule)),
        whole(count("alone", rule)),
      ]),
    ),
    tall: failing.length > 24,
  });
}

/** Which rules fail the same documents: a cell's strength is the share of its row's documents that fail its column too. */
function drawOverlap(section, all, order) {
  const pairs = new Map();
  for (const [one, other, count] of DATA.overlap || []) {
    pairs.set(`${one}\n${other}`, count);
    pairs.set(`${other}\n${one}`, count);
  }
  if (!pairs.size) return;
  const named = new Set((DATA.overlap || []).flatMap(([one, other]) => [one, other]));
  const rules = order.filter((rule) => named.has(rule));
  const failing = new Map(rules.map((rule) => [rule, sum(all.map((row) => row.dropped?.[rule] || 0))]));
  const both = (one, other) => pairs.get(`${one}\n${other}`) || 0;
  figure(section, {
    title: "Rules that fail the same documents",
    words: "Of the documents that fail a row's rule, the share that fails the column's as well; columns are numbered as rows.",
    draw: (width) => drawMatrix(width, rules, failing, both),
    numbers: table(
      [{ name: "rule", words: true }, { name: "and", words: true }, { name: "documents" }, { name: "of the first" }, { name: "of the second" }],
      [...(DATA.overlap || [])]
        .sort((a, b) => b[2] - a[2])
        .slice(0, 200)
        .map(([one, other, count]) => [
          one,
          other,
          whole(count),
          percent(count / failing.get(one)),
          percent(count / failing.get(other)),
        ]),
    ),
  });
}

function drawMatrix(width, rules, failing, both) {
  const labels = rules.map((rule, n) => `${n + 1}  ${rule}`);
  const widest = Math.max(...labels.map((label) => textWidth(label, 13)));
  const left = Math.min(widest + 12, width * 0.45);
  const cell = Math.max(9, Math.min(34, (width - left - 6) / rules.length));
  const top = 22;
  const [w, h] = [left + cell * rules.length + 6, top + cell * rules.length + 8];
  const picture = svg("svg", { width: Math.max(w, width), height: h, viewBox: `0 0 ${Math.max(w, width)} ${h}` });
  const every = Math.ceil(20 / cell); // so that numbers do not touch
  rules.forEach((one, row) => {
    const y = top + row * cell;
    const shown = fitted(labels[row], left - 8);
    const label = svg("text", { class: "label", x: left - 6, y: y + cell / 2 + 4, "text-anchor": "end" }, shown);
    if (row % Math.ceil(15 / cell) === 0) picture.append(shown === labels[row] ? label : mark(label, one));
    if (row % every === 0)
      picture.append(
        svg("text", { class: "tick", x: left + (row + 0.5) * cell, y: top - 7, "text-anchor": "middle" }, String(row + 1)),
      );
    rules.forEach((other, column) => {
      const count = row === column ? failing.get(one) : both(one, other);
      const share = count / (failing.get(one) || 1);
      const shape = svg("rect", {
        class: row === column ? "own heat" : "heat",
        x: left + column * cell,
        y,
        width: cell - 1,
        height: cell - 1,
      });
      if (row !== column && count) shape.style.setProperty("--strength", `${Math.round(8 + 92 * share)}%`);
      const tip = row === column ? [one, `${whole(count)} documents fail it`] : [
        `${one} and ${other}`,
        `${whole(count)} documents fail both`,
        `${percent(share)} of those that fail ${one}`,
      ];
      picture.append(mark(shape, ...tip));
    });
  });
  return picture;
}

/** Duplicates: how similar they are to what is kept, and how many rows clusters lose. */
function drawDuplicates(section) {
  const told = DATA.duplicates;
  if (!told?.clusters) return;
  const dropped = sum(Object.values(told.dropped));
  section.append(
    paragraph(
      `${whole(dropped)} documents repeat one that is kept, in ${whole(told.clusters)} cluster${told.clusters === 1 ? "" : "s"}: `,
      Object.entries(told.dropped)
        .map(([rule, count]) => `${whole(count)} by ${rule}`)
        .join(", "),
      ". Each of them names its kept twin in the ledger.",
    ),
  );
  for (const [rule, bins] of Object.entries(told.similarity)) {
    const first = bins.findIndex((count) => count > 0);
    const shown = bins.slice(first);
    const name = (n) => `${fixed((first + n) / bins.length, 2)} to ${fixed((first + n + 1) / bins.length, 2)}`;
    figure(section, {
      title: `How similar: ${rule}`,
      words: "Documents by their similarity to the kept twin they name.",
      draw: (width) =>
        rowChart(width, {
          rows: shown.map((count, n) => ({
            label: name(n),
            side: whole(count),
            draw: (group, x, y, height) =>
              group.append(mark(bar(x, 0, count, { y, height, tone: "r2 area" }), name(n), `${whole(count)} documents`)),
          })),
          domain: [0, Math.max(...shown) * 1.01],
          axis: "documents",
          format: scaled,
          height: 22,
        }),
      numbers: table(
        [{ name: "similarity", words: true }, { name: "documents" }],
        shown.map((count, n) => [name(n), whole(count)]),
      ),
    });
  }
  const least = (most) => (most < 3 ? "" : `${whole(most / 2 + 1)} to `);
  section.append(
    folded(
      "How large the clusters are",
      table(
        [{ name: "documents dropped", words: true }, { name: "clusters" }],
        told.sizes.map(([most, count]) => [`${least(most)}${whole(most)}`, whole(count)]),
      ),
    ),
  );
}

/** A row per pair of scorers of a vote. */
function agreementTable(vote, { names, spearman, jaccard, compared, kept }) {
  const pairs = names.flatMap((one, a) => names.slice(a + 1).map((other, n) => [a, a + 1 + n, one, other]));
  return table(
    [
      { name: "scorer", words: true },
      { name: "and", words: true },
      { name: "documents both scored" },
      { name: "rank correlation", hint: "Spearman" },
      { name: "overlap of what they keep", hint: "kept by both / kept by either" },
      { name: "each keeps", hint: "documents" },
    ],
    pairs.map(([a, b, one, other]) => [
      one,
      other,
      whole(compared[a][b]),
      fixed(spearman[a][b], 2),
      percent(jaccard[a][b], 0),
      `${whole(kept[a])} · ${whole(kept[b])}`,
    ]),
    { caption: `Votes of ${vote}` },
  );
}

/** Folded per rule, the samples that fail it first. */
function samplesByRule(samples, order) {
  const rules = [...new Set([...order, ...samples.flatMap((row) => row.rules)])];
  return rules.flatMap((rule) => {
    const mine = samples.filter((row) => row.rules[0] === rule);
    return mine.length ? [folded(rule, ...mine.map(sample))] : [];
  });
}

function ruleOrder(all) {
  const named = (DATA.rules || []).map((rule) => rule.rule);
  const found = new Set(all.flatMap((row) => Object.keys(row.first_dropped || row.dropped || {})));
  return [...new Set(["unreadable", ...named, ...found])].filter((rule) => found.has(rule));
}

/** Rules that have a colour of their own in a funnel; the others share one. */
const COLOURS = 6;

function funnel(section, title, sources, coloured, order) {
  const others = order.filter((rule) => !coloured.includes(rule));
  const rows = sources.map((source) => ({
    label: source.name,
    side: `${whole(source.read.documents)} → ${whole(source.kept.documents)}`,
    draw: (group, x, y, height) => {
      let at = 0;
      const total = source.read.documents || 1;
      const piece = (share, tone, ...tip) => {
        const shape = { y, height, tone: `${tone} area`, gap: 1 };
        if (share > 0) group.append(mark(bar(x, at, at + share, shape), ...tip));
        at += share;
      };
      piece(
        source.kept.documents / total,
        "kept",
        source.name,
        `kept ${whole(source.kept.documents)} documents (${percent(source.kept.documents / total)})`,
        `${scaled(source.kept.bytes)}B of text`,
      );
      coloured.forEach((rule, n) => {
        const count = source.first_dropped?.[rule] || 0;
        piece(
          count / total,
          `r${n}`,
          source.name,
          `${rule}: ${whole(count)} documents (${percent(count / total)})`,
          "counted under the first rule it failed",
        );
      });
      const rest = sum(others.map((rule) => source.first_dropped?.[rule] || 0));
      piece(
        rest / total,
        "others",
        source.name,
        `${others.length} other rules: ${whole(rest)} documents (${percent(rest / total)})`,
        "stage by stage below",
      );
    },
  }));
  figure(section, {
    title,
    words: "Share of the documents read: kept, then dropped under the first rule failed.",
    key: legend([
      ["kept", swatch("kept")],
      ...coloured.map((rule, n) => [rule, swatch(`r${n}`)]),
      ...(others.length ? [[`${others.length} other rules`, swatch("others")]] : []),
    ]),
    draw: (width) =>
      rowChart(width, {
        rows,
        domain: [0, 1],
        axis: "share of documents read",
        format: (tick) => percent(tick, 0),
        head: "read → kept",
      }),
    tall: rows.length > 24,
  });
  section.append(
    folded(
      `${title}: where from, and every number`,
      table(
        [
          { name: "source", words: true },
          { name: "domain", words: true },
          { name: "taken by the rule", words: true },
          { name: "licence", words: true },
        ],
        sources.map((source) => [
          source.name,
          source.domain || MISSING,
          source.rule || MISSING,
          source.licence || MISSING,
        ]),
      ),
      table(
        [
          { name: "source", words: true },
          { name: "documents read" },
          { name: "bytes read" },
          ...order.map((rule) => ({ name: rule, hint: `documents first dropped by ${rule}` })),
          { name: "documents kept" },
          { name: "bytes kept" },
          { name: "kept" },
        ],
        sources.map((source) => [
          source.name,
          whole(source.read.documents),
          `${scaled(source.read.bytes)}B`,
          ...order.map((rule) => whole(source.first_dropped?.[rule] || 0)),
          whole(source.kept.documents),
          `${scaled(source.kept.bytes)}B`,
          percent(source.kept.documents / (source.read.documents || 1)),
        ]),
      ),
    ),
  );
}

function rulesTable(rules, all, order) {
  const named = new Map(rules.map((rule) => [rule.rule, rule]));
  const count = (key, rule) => sum(all.map((row) => row[key]?.[rule] || 0));
  return table(
    [
      { name: "rule", words: true },
      { name: "what must hold", words: true },
      { name: "failing it", hint: "documents; one may fail several rules" },
      { name: "first failed here", hint: "documents" },
      { name: "set for", words: true, hint: "domains and languages that set it themselves" },
      { name: "threshold from", words: true },
    ],
    [...new Set([...order, ...named.keys()])].map((rule) => [
      rule,
      mustHold(named.get(rule)),
      whole(count("dropped", rule)),
      whole(count("first_dropped", rule)),
      named.get(rule)?.places?.join(", ") || MISSING,
      named.get(rule)?.source || MISSING,
    ]),
  );
}

function mustHold(rule) {
  if (rule?.text) return rule.text;
  const bounds = [known(rule?.min) ? `>= ${rule.min}` : "", known(rule?.max) ? `<= ${rule.max}` : ""].filter(Boolean);
  return rule?.signal && bounds.length ? `${rule.signal} ${bounds.join(" and ")}` : MISSING;
}

function sample(row) {
  const reasons = row.rules.map((rule, n) => {
    const value = row.values?.[n];
    const bound = row.thresholds?.[n];
    return rule + (known(value) ? ` = ${Number(value.toPrecision(4))}` : "") + (bound ? ` (wanted ${bound})` : "");
  });
  return el(
    "div",
    { class: "sample" },
    el(
      "p",
      {},
      el("span", { class: "where" }, `${row.source} · ${row.path}:${row.row}`),
      ` failed ${reasons.join(", ")}`,
    ),
    row.start ? el("pre", {}, row.start) : null,
  );
}

/* -- corpus ---------------------------------------------------------------------------------------------------- */

function sectionCorpus(section) {
  const { corpus, tokenizer } = DATA;
  if (!corpus?.length) return false;
  const total = sum(corpus.map((row) => row.tokens));
  section.append(
    paragraph(
      `${scaled(total)} unique training tokens in ${corpus.length} domains`,
      tokenizer
        ? `, cut by a tokenizer of ${whole(tokenizer.vocab)} pieces (${String(tokenizer.hash).slice(0, 8)})`
        : "",
      ". The natural mixture takes each domain in proportion to its tokens. Held-out text is chosen by its hash and never trained on.",
    ),
  );
  const rows = corpus.map((row) => ({
    label: row.domain,
    side: `${scaled(row.tokens)} · ${fixed(row.bytes / row.tokens, 2)} B/token`,
    draw: (group, x, y, height) => {
      const piece = (from, to, tone, ...tip) =>
        group.append(mark(bar(x, from, to, { y, height, tone: `${tone} area` }), row.domain, ...tip));
      piece(
        0,
        row.tokens,
        "kept",
        `${whole(row.tokens)} training tokens, ${percent(row.tokens / total)} of all`,
        `${whole(row.documents)} documents`,
      );
      piece(row.tokens, row.tokens + row.held_out_tokens, "r1", `${whole(row.held_out_tokens)} held-out tokens`);
    },
  }));
  figure(section, {
    title: "Tokens per domain",
    words: "Training tokens, and beside them the held-out part.",
    key: legend([
      ["training", swatch("kept")],
      ["held out", swatch("r1")],
    ]),
    draw: (width) =>
      rowChart(width, {
        rows,
        domain: [0, Math.max(...corpus.map((row) => row.tokens + row.held_out_tokens)) * 1.01],
        axis: "tokens",
        format: scaled,
        head: "tokens · bytes/token",
      }),
    numbers: table(
      [
        { name: "domain", words: true },
        { name: "training tokens" },
        { name: "natural weight" },
        { name: "text, bytes" },
        { name: "bytes/token" },
        { name: "documents" },
        { name: "held-out tokens" },
      ],
      corpus.map((row) => [
        row.domain,
        whole(row.tokens),
        percent(row.tokens / total),
        `${scaled(row.bytes)}B`,
        fixed(row.bytes / row.tokens, 2),
        whole(row.documents),
        whole(row.held_out_tokens),
      ]),
    ),
    tall: rows.length > 24,
  });
  return true;
}
