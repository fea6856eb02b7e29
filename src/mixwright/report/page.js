/* The page: its sections in order, each left out where its data are missing. */

const SECTIONS = [
  ["sources", "Sources and what was dropped", "Sources", sectionSources],
  ["corpus", "The corpus", "Corpus", sectionCorpus],
  ["mixtures", "The mixtures", "Mixtures", sectionMixtures],
  ["runs", "The runs", "Runs", sectionRuns],
  ["law", "How well the law predicts", "Law", sectionLaw],
  ["try", "Try a mixture", "Try a mixture", sectionTry],
  ["verify", "Predicted against measured", "Predicted, measured", sectionVerify],
  ["curves", "Training curves", "Training curves", sectionCurves],
  ["others", "What other losses paid", "Other losses", sectionOthers],
  ["final", "The final phase", "Final phase", sectionFinal],
  ["recipe", "The recipe", "Recipe", sectionRecipe],
  ["made", "How this was made", "How it was made", sectionMade],
];

window.__mixwright = state;
window.addEventListener("error", (event) => state.errors.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => state.errors.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) =>
  state.errors.push(`blocked: ${event.violatedDirective} ${event.blockedURI}`),
);

/** Draws into an element that already stands on the page, so that figures know their width. */
function attempt(where, host, draw) {
  try {
    return draw(host) !== false;
  } catch (error) {
    complain(where, error);
    host.append(note("This part could not be drawn."));
    return true;
  }
}

function build() {
  const answer = document.getElementById("answer");
  if (answer) attempt("answer", answer, drawAnswer);
  const [main, contents] = [document.getElementById("main"), document.getElementById("contents")];
  const links = [];
  for (const [id, title, short, draw] of SECTIONS) {
    const section = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title));
    main.append(section);
    if (attempt(title, section, draw)) links.push(el("li", {}, el("a", { href: `#${id}` }, short)));
    else section.remove();
  }
  if (links.length) contents.append(el("ul", {}, links));
  watchPlace(contents);
}

/** Shows in the contents which section is being read. */
function watchPlace(contents) {
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.getAttribute("href").slice(1), link]));
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  for (const section of document.querySelectorAll("main > section")) watcher.observe(section);
}

window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    details.dataset.printed = "1";
  }
});
window.addEventListener("afterprint", () => {
  for (const details of document.querySelectorAll("details[data-printed]")) {
    details.open = false;
    delete details.dataset.printed;
  }
});

build();
