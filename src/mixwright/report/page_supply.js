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
  const used = order.filter((rule) => all.some((row) => row.first_dropped?.[rule] > 0)); // few enough for a colour each
  funnel(section, "Training sources", sources, used);
  if (targets?.length) {
    section.append(
      paragraph(
        "Targets are never trained on. Documents that share a run of 13 words with any training text were removed from them.",
      ),
    );
    funnel(section, "Targets", targets, used);
  }
  if (rules?.length)
    section.append(folded("The rules and how many documents failed each", rulesTable(rules, all, order)));
  if (samples?.length) section.append(folded("Some of what was dropped", ...samples.map(sample)));
  return true;
}

function ruleOrder(all) {
  const named = (DATA.rules || []).map((rule) => rule.rule);
  const found = new Set(all.flatMap((row) => Object.keys(row.first_dropped || row.dropped || {})));
  return [...new Set(["unreadable", ...named, ...found])].filter((rule) => found.has(rule));
}

function funnel(section, title, sources, order) {
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
      order.forEach((rule, n) => {
        const count = source.first_dropped?.[rule] || 0;
        piece(
          count / total,
          `r${n % 6}`,
          source.name,
          `${rule}: ${whole(count)} documents (${percent(count / total)})`,
          "counted under the first rule it failed",
        );
      });
    },
  }));
  figure(section, {
    title,
    words: "Share of the documents read: kept, then dropped under the first rule failed.",
    key: legend([["kept", swatch("kept")], ...order.map((rule, n) => [rule, swatch(`r${n % 6}`)])]),
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
      { name: "signal", words: true },
      { name: "least" },
      { name: "most" },
      { name: "documents failing it", hint: "a document may fail several rules" },
      { name: "first failed here" },
    ],
    [...new Set([...order, ...named.keys()])].map((rule) => [
      rule,
      named.get(rule)?.signal || MISSING,
      known(named.get(rule)?.min) ? String(named.get(rule).min) : MISSING,
      known(named.get(rule)?.max) ? String(named.get(rule).max) : MISSING,
      whole(count("dropped", rule)),
      whole(count("first_dropped", rule)),
    ]),
  );
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
