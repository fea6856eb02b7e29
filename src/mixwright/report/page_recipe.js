/* The recipe to take away, and how all of this was made. */

function sectionRecipe(section) {
  const { recipe } = DATA;
  if (!recipe?.phases?.length) return false;
  const domains = Object.keys(recipe.phases[0].weights);
  section.append(
    paragraph(
      `${scaled(recipe.tokens)} training tokens in ${recipe.phases.length === 1 ? "one phase" : `${recipe.phases.length} phases`}`,
      known(recipe.params) ? `, for a model of ${scaled(recipe.params)} parameters outside the embeddings` : "",
      ". ",
      Object.keys(recipe.epochs || {}).length
        ? "Epochs say how often each domain's unique tokens are seen in all; up to about four, repeated tokens are nearly worth new ones (Muennighoff et al. 2023)."
        : "The supplies are not known, so neither are the epochs.",
    ),
  );
  section.append(
    table(
      [
        { name: "domain", words: true },
        ...recipe.phases.map((phase, n) => ({ name: `phase ${n + 1}: ${scaled(phase.tokens)} tokens` })),
        { name: "epochs" },
        { name: "unique tokens" },
      ],
      domains.map((domain) => [
        domain,
        ...recipe.phases.map((phase) => percent(phase.weights[domain], 2)),
        { text: fixed(recipe.epochs?.[domain], 2), caution: recipe.epochs?.[domain] > 4 },
        scaled(recipe.supply?.[domain]),
      ]),
      { caption: "Weights by phase" },
    ),
  );
  if (recipe.forecasts?.length) section.append(forecasts(recipe.forecasts));
  for (const sentence of recipe.notes || []) section.append(note(sentence));
  const prints = Object.entries(recipe.fingerprints || {});
  if (prints.length) {
    section.append(
      folded(
        "Fingerprints of every input",
        table(
          [
            { name: "input", words: true },
            { name: "hash", words: true },
          ],
          prints.map(([name, hash]) => [name, String(hash)]),
        ),
      ),
    );
  }
  if (DATA.recipe_yaml) section.append(recipeText(DATA.recipe_yaml));
  return true;
}

function forecasts(list) {
  return table(
    [
      { name: "metric", words: true },
      { name: "what", words: true },
      { name: "expected" },
      { name: "90 % interval" },
      { name: "unit", words: true },
      { name: "holds for", words: true },
    ],
    list.map((one) => {
      const number = one.kind === "difference" ? signed : fixed;
      const size = [
        known(one.params) ? `${scaled(one.params)} parameters` : "",
        known(one.tokens) ? `${scaled(one.tokens)} tokens` : "",
      ]
        .filter(Boolean)
        .join(", ");
      return [
        one.metric,
        one.kind === "difference" ? `difference to ${one.reference || "the reference"}` : "loss",
        number(one.value),
        `${number(one.low)} to ${number(one.high)}`,
        one.unit,
        size || "the size of the runs",
      ];
    }),
    { caption: "Forecasts" },
  );
}

function recipeText(text) {
  const said = el("span", { class: "note", role: "status" });
  const copy = el("button", { type: "button", onclick: () => copyText(text, said) }, "Copy");
  const save = el("button", { type: "button", onclick: () => saveText(text, "recipe.yaml") }, "Download");
  return folded("recipe.yaml", el("div", { class: "buttons" }, copy, save, said), el("pre", { tabindex: "0" }, text));
}

async function copyText(text, said) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied.";
  } catch {
    said.textContent = "This browser does not let a local page copy; use Download.";
  }
}

function saveText(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/yaml" }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/* -- how this was made -------------------------------------------------------------------------------------------- */

function sectionMade(section) {
  const { study, seconds: wall, cpu_seconds: cpu, files, notes, version, created } = DATA;
  if (!study && !wall && !files?.length && !notes?.length) return false;
  section.append(
    paragraph(
      version ? `Made by mixwright ${version}` : "Made by mixwright",
      created ? ` on ${String(created).slice(0, 10)}` : "",
      ". Everything on this page is in this file; it asks nothing of any server.",
    ),
  );
  for (const sentence of notes || []) section.append(note(sentence));
  if (wall && Object.keys(wall).length) stageTimes(section, wall, cpu || {});
  if (files?.length) {
    section.append(
      el("h3", {}, "Files"),
      table(
        [
          { name: "file", words: true },
          { name: "what it is", words: true },
        ],
        files.map((file) => [file.name, file.what]),
      ),
    );
  }
  if (study) section.append(folded("The study file", el("pre", { tabindex: "0" }, study)));
  section.append(
    folded(
      "The words used here",
      el(
        "dl",
        { class: "words" },
        [
          [
            "nats/token",
            "Loss: minus the natural logarithm of the probability the model gave to the token that came. A difference of 0.1 means 10 % more or less probability per token.",
          ],
          ["bits/byte", "The same loss per byte of text, in bits; it does not depend on the tokenizer."],
          ["objective", "The weighted mean of the target losses that the mixture was optimized for."],
          ["weight", "The fraction of training tokens drawn from a domain."],
          ["epochs", "How often the unique tokens of a domain are seen."],
          ["noise", "Standard deviation of a loss between runs that differ only in their seed."],
          [
            "90 % interval",
            "Made so that nine of ten such intervals hold the true value, if the model of the errors is right.",
          ],
        ].flatMap(([word, meaning]) => [el("dt", {}, word), el("dd", {}, meaning)]),
      ),
    ),
  );
  return true;
}

function stageTimes(section, wall, cpu) {
  const stages = Object.keys(wall).filter((stage) => known(wall[stage]));
  if (!stages.length) return;
  const rows = stages.map((stage) => ({
    label: stage,
    side: seconds(wall[stage]) + (known(cpu[stage]) ? ` · ${seconds(cpu[stage])} CPU` : ""),
    draw: (group, x, y, height) =>
      group.append(
        mark(
          bar(x, 0, wall[stage], { y, height, tone: "kept area", thick: 0.56 }),
          stage,
          `${seconds(wall[stage])} on the clock`,
          known(cpu[stage]) ? `${seconds(cpu[stage])} of CPU` : "",
        ),
      ),
  }));
  figure(section, {
    title: "Time by stage",
    words: `${seconds(sum(stages.map((stage) => wall[stage])))} in all.`,
    draw: (width) =>
      rowChart(width, {
        rows,
        domain: [0, Math.max(...stages.map((stage) => wall[stage])) * 1.02],
        axis: "seconds on the clock",
        format: (tick) => fixed(tick, 0),
        height: 22,
      }),
    numbers: table(
      [{ name: "stage", words: true }, { name: "on the clock" }, { name: "CPU" }],
      stages.map((stage) => [stage, seconds(wall[stage]), seconds(cpu[stage])]),
    ),
  });
}
