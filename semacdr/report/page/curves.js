// Training curves: the loss and the validation score of every run by epoch. Where a model is trained for each domain
// apart, those of the chosen domain, if the model has a number there.
function drawCurves(section, width) {
  const here = new Set(numbers().filter((row) => row.protocol === state.protocol && row.domain === state.domain)
    .map((row) => row.model));
  const mine = DATA.curves.filter((entry) => entry.dataset === state.dataset && state.shown.has(entry.model)
    && (!entry.domain || entry.domain === state.domain || !here.has(entry.model)));
  const grid = el("div", { class: "grid wide" });
  const inner = panelWidth(width, 26, 2);
  grid.append(curvePanel("Training loss", "loss", inner, mine, 1));
  const scored = mine.filter((entry) => entry.metric);
  for (const what of distinct(scored.map(validation)))
    grid.append(curvePanel(`Validation ${what}`, what, inner, scored.filter((entry) => validation(entry) === what), 2));
  section.append(grid);
}

// A protocol has an axis of its own: among 999 negatives the same model scores many times as high.
const validation = (entry) => `${entry.metric}${entry.protocol ? ` under ${entry.protocol}` : ""}`;

const runName = (entry) => `${entry.model}${entry.domain ? `, ${entry.domain}` : ""}, seed ${entry.seed}`;

function curvePanel(title, what, width, entries, column) {
  const lines = entries.map((entry) => ({ ...entry,
    at: entry.points.filter((point) => isNumber(point[column])) })).filter((entry) => entry.at.length);
  const height = 270, box = { left: 52, right: width - 10, top: 10, bottom: height - 36 };
  const picture = canvas(width, height);
  const values = lines.flatMap((entry) => entry.at.map((point) => point[column]));
  const epochs = lines.flatMap((entry) => entry.at.map((point) => point[0]));
  const lows = [Math.min(...values), Math.max(...values)], last = Math.max(...epochs, 1),
    first = Math.min(...epochs, last);
  const pad = (lows[1] - lows[0] || Math.abs(lows[0]) || 1) * 0.05;
  const y = linear(lows[0] - pad, lows[1] + pad, box.bottom, box.top),
    x = linear(first, last, box.left + 8, box.right - 8);
  if (lines.length) frame(picture, box, ticks(...lows), y);
  for (const epoch of ticks(first, last, Math.min(8, last - first || 1)).filter(Number.isInteger))
    picture.append(svg("text", { class: "dim", x: x(epoch), y: box.bottom + 17, "text-anchor": "middle" },
      String(epoch)));
  picture.append(svg("text", { class: "dim", x: (box.left + box.right) / 2, y: height - 3, "text-anchor": "middle" },
    "epoch"));
  for (const entry of lines) {
    const path = entry.at.map((point,
      at) => `${at ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[column]).toFixed(1)}`).join("");
    const made = svg("path", { class: "mark", d: path, fill: "none", stroke: colourOf(entry.model),
      "stroke-width": 1.9, "stroke-linejoin": "round", "stroke-dasharray": dashOf(entry.model) });
    made.append(svg("title", {}, runName(entry)));
    picture.append(made);
    const sign = column === 1 || lowerIsBetter(entry.metric) ? -1 : 1;
    const best = entry.at.reduce((a, b) => (sign * b[column] > sign * a[column] ? b : a));
    const spot = column === 2 ? best : entry.at[entry.at.length - 1];
    picture.append(mark(shapeOf(entry.model), x(spot[0]), y(spot[column]), 4.2,
      { fill: colourOf(entry.model), class: "mark halo", "stroke-width": 1 }));
  }
  const description = `${what} of ${lines.length} runs by epoch, ${first} to ${last}.`;
  const note = column === 1 ? "Models have losses of their own: compare a line with itself."
    : "The mark stands at the best epoch, whose weights are kept.";
  return figure(title, description, picture, ["Run", "epoch", what],
    () => lines.flatMap((entry) => entry.at.map((point) => [runName(entry), point[0], score(point[column])])),
    el("p", { class: "sub" }, note));
}
