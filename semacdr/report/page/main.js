// Sections and choices: what stands on the page, and what is drawn anew when a choice changes.
const main = document.getElementById("main");
const SECTIONS = [
  { id: "leaderboard", title: "Leaderboard",
    lead: "Sort by a column's name. What is chosen above counts for the whole page.", draw: drawBoard },
  { id: "domains", title: "By domain",
    lead: "Means with their 95 % intervals over users, models in the order of the leading metric.", draw: drawDomains,
    if: () => numbers().length },
  { id: "buckets", title: "Cold items and cold users", lead: "Who holds up where little is known.", draw: drawBuckets,
    legend: (model) => numbers().some((row) => row.model === model && row.source === "measured"),
    if: () => numbers().some((row) => /^(item|user) /.test(row.subset)) },
  { id: "training", title: "Training", lead: "One line a run.", draw: drawCurves,
    legend: (model) => DATA.curves.some((entry) => entry.dataset === state.dataset && entry.model === model),
    if: () => DATA.curves.some((entry) => entry.dataset === state.dataset) },
  { id: "cost", title: "Cost",
    lead: "Means over seeds; of memory the most. Seconds are of the machine that ran a training, and of whatever else it did.",
    draw: drawCosts, if: () => DATA.costs.some((cost) => cost.dataset === state.dataset) },
  { id: "weights", title: "Views and threads", lead: "What SemaCDR listens to.", draw: drawWeights,
    if: () => datasetEntry()?.weights.some((model) => Object.keys(model.gates).length + Object.keys(model.threads).length) },
  { id: "map", title: "Map of the items",
    lead: "Item vectors in two dimensions. Point at an item, or go from item to item with the arrow keys.",
    draw: drawMap, if: () => datasetEntry()?.maps.length },
  { id: "examples", title: "Some users", lead: "Test users drawn by chance, the same for every model.",
    draw: drawExamples, if: () => datasetEntry()?.examples.length },
];

// The inner width of a card in a grid whose cards are at least `least` rem wide.
function panelWidth(width, least, cards) {
  const rem = 16, gap = 16, frame = width < 700 ? 28 : 38;
  const columns = Math.max(1, Math.min(Math.floor((width + gap) / (least * rem + gap)), Math.max(cards, 1)));
  return Math.max(220, Math.floor((width - (columns - 1) * gap) / columns - frame));
}

function legend(has) {
  const drawn = models().filter(has);
  return el(
    "div",
    { class: "chips", role: "group", "aria-label": "Models shown" },
    drawn.map((model) =>
      el("button", { class: "chip", type: "button", "aria-pressed": String(state.shown.has(model)),
        onclick: (event) => {
        const id = event.currentTarget.closest("section").id;
        if (!state.shown.delete(model)) state.shown.add(model);
        for (const section of SECTIONS) if (section.legend) redraw(section.id);
        [...document.querySelectorAll(`#${id} .chip`)].find((chip) => chip.textContent === model)?.focus({ preventScroll: true });
      } }, swatch(model), model),
    ),
  );
}

function pageWidth() {
  const style = getComputedStyle(main);
  return main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
}

// What the reader has opened or closed stays so when it is drawn anew.
const detailsName = (details) => `${details.closest("section").id}: ${(details.closest("figure")?.querySelector("h3")
  ?? details.querySelector("summary")).textContent}`;
const openness = (within) => new Map([...within.querySelectorAll("details")].map((each) => [detailsName(each), each.open]));
function reopen(within, before) {
  for (const each of within.querySelectorAll("details")) each.open = before.get(detailsName(each)) ?? each.open;
}

function redraw(id, width = pageWidth()) {
  const section = SECTIONS.find((each) => each.id === id);
  const place = document.getElementById(id);
  if (!place) return;
  const made = el("section", { id, "aria-labelledby": `${id}-heading` },
    el("h2", { id: `${id}-heading` }, section.title), el("p", { class: "lead" }, section.lead));
  if (section.legend) made.append(legend(section.legend));
  section.draw(made, width);
  reopen(made, openness(place));
  place.replaceWith(made);
}

function drawAll() {
  const width = pageWidth(); // measured once, before anything changes
  const before = openness(main);
  const there = SECTIONS.filter((section) => !section.if || section.if());
  main.replaceChildren(...there.map((section) => el("section", { id: section.id })));
  for (const section of there) redraw(section.id, width);
  reopen(main, before);
  const notes = datasetEntry()?.notes ?? [];
  if (notes.length) main.append(el("section", { id: "missing" }, el("h2", {}, "What is not shown"),
    notes.map((note) => el("p", { class: "note" }, note))));
  document.getElementById("contents").replaceChildren(...there.map((section) => el("a", { href: `#${section.id}` },
    section.title)));
}

const CHOICES = [
  { key: "dataset", label: "Data set", values: () => DATA.datasets.map((entry) => entry.name) },
  { key: "protocol", label: "Protocol", values: () => distinct(numbers().map((row) => row.protocol)) },
  { key: "domain", label: "Domain",
    values: () => domainsOf(numbers().filter((row) => row.protocol === state.protocol)), last: true,
    name: (value) => (value === "all" ? "all domains" : value) },
  { key: "metric", label: "Metric",
    values: () => distinct(numbers().filter((row) => row.protocol === state.protocol).map((row) => row.metric)),
    first: () => DATA.lead[state.protocol] },
  { key: "subset", label: "Targets",
    values: () => distinct(numbers().filter((row) => row.protocol === state.protocol
    && row.domain === state.domain).map((row) => row.subset)), first: () => "all", name: subsetName },
];

function settle(changed) {
  for (const choice of CHOICES) {
    const values = choice.values();
    if (values.includes(state[choice.key])) continue;
    const wanted = choice.first?.();
    state[choice.key] = values.includes(wanted) ? wanted : choice.last ? values[values.length - 1] : values[0];
  }
  if (!changed || changed === "dataset") state.shown = new Set(models().slice(0, 6));
  sorting.all = false;
  if (["metric", "protocol", "dataset"].includes(changed) && sorting.column !== "model") sorting.column = null;
  const form = document.getElementById("choices");
  form.replaceChildren(
    ...CHOICES.map((choice) => {
      const values = choice.values();
      const select = el("select", { name: choice.key, disabled: values.length < 2, onchange: (event) => {
        state[choice.key] = event.target.value;
        settle(choice.key);
        drawAll();
        form.elements[choice.key].focus({ preventScroll: true });
      } }, values.map((value) => el("option", { value, selected: value === state[choice.key] },
        choice.name?.(value) ?? value)));
      return el("label", {}, choice.label, select);
    }),
  );
}

function facts() {
  const failed = ROWS.filter((row) => row.status !== "ok").length;
  const measured = distinct(ROWS.filter((row) => row.source === "measured").map((row) => row.model)).length;
  const parts = [[DATA.datasets.length, "data set"], [measured, "model"], [DATA.curves.length, "training curve"]];
  if (failed) parts.push([failed, "failed run"]);
  const place = document.getElementById("facts");
  parts.forEach(([number, what], at) => place.append(at ? " · " : "", el("b", {}, count(number)),
    ` ${what}${number === 1 ? "" : "s"}`));
  document.getElementById("notes").append(...DATA.notes.map((note) => el("p", { class: "note" }, note)));
}

facts();
settle();
drawAll();
let waiting = null, drawnAt = main.clientWidth;
new ResizeObserver(() => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (Math.abs(main.clientWidth - drawnAt) < 4) return;
    drawnAt = main.clientWidth;
    drawAll();
  }, 150);
}).observe(main);
