// The leaderboard: one line a model for what is chosen, sorted by any column.
const LINES = 300; // more are shown on request
const LEVEL = 0.05;
const sorting = { column: null, descending: true, all: false };

function boardLines() {
  const costs = new Map();
  for (const cost of DATA.costs)
    if (cost.dataset === state.dataset) costs.set(`${cost.model}|${cost.domain ?? "all"}`, cost);
  const tests = DATA.tests.filter(
    (test) =>
      test.dataset === state.dataset && test.protocol === state.protocol && test.metric === state.metric
        && test.domain === state.domain,
  );
  const against = new Map(tests.map((test) => [test.model, test]));
  const best = tests.length && state.subset === "all" ? tests[0].best : null;
  return numbers()
    .filter((row) => row.protocol === state.protocol && row.metric === state.metric && row.domain === state.domain
      && row.subset === state.subset)
    .map((row) => {
      const measured = row.source === "measured";
      const cost = measured ? costs.get(`${row.model}|all`) ?? costs.get(`${row.model}|${row.domain}`) ?? {} : {};
      const test = measured && state.subset === "all" ? against.get(row.model) : undefined;
      return { ...row, ...cost, model: row.model, domain: row.domain, measured, test, p: test ? test.p_holm : null,
        difference: test ? test.difference : null, effect_size: test ? test.effect_size : null,
        best: measured && row.model === best };
    });
}

function boardColumns(lines) {
  const has = (name) => lines.some((line) => line[name] !== null && line[name] !== undefined);
  const columns = [
    { key: "model", title: "Model", text: true },
    { key: "mean", title: state.metric },
    { key: "ci_low", title: "95 % interval", hide: !has("ci_low") },
    { key: "std", title: "± seeds", hide: !has("std") },
    { key: "difference", title: "To the best", hide: !has("difference") },
    { key: "p", title: "p, Holm", hide: !has("p") },
    { key: "effect_size", title: "d", hide: !has("effect_size") },
    { key: "seeds", title: "Seeds" },
    { key: "train_cpu_seconds", title: "CPU", hide: !has("train_cpu_seconds") },
    { key: "peak_rss_bytes", title: "Memory", hide: !has("peak_rss_bytes") },
    { key: "parameters", title: "Parameters", hide: !has("parameters") },
    { key: "epochs", title: "Epochs", text: true, hide: !has("epochs") },
    { key: "trials", title: "Trials", hide: !lines.some((line) => line.trials > 1) },
  ];
  return columns.filter((column) => !column.hide);
}

function sortedLines(lines, column) {
  const sign = sorting.descending ? -1 : 1;
  return [...lines].sort((a, b) => {
    const [left, right] = [a[column.key], b[column.key]];
    if (column.text && (left === null || right === null)) return (left === null) - (right === null);
    if (column.text) return sign * String(left).localeCompare(String(right), "en", { numeric: true });
    // nothing comes last, either way
    if (!isNumber(left) || !isNumber(right)) return isNumber(right) - isNumber(left);
    return sign * (left - right) || String(a.model).localeCompare(String(b.model));
  });
}

function intervalCell(line, scale) {
  if (!isNumber(line.ci_low)) return el("td", { class: "interval" });
  const words = `${score(line.ci_low)} to ${score(line.ci_high)}`;
  const picture = svg(
    "svg",
    { viewBox: "0 0 120 16", role: "img", "aria-label": words },
    svg("rect", { class: "track", x: 0, y: 6, width: 120, height: 4, rx: 2 }),
    svg("line", { x1: scale(line.ci_low), x2: scale(line.ci_high), y1: 8, y2: 8, stroke: colourOf(line.model),
      "stroke-width": 4, "stroke-linecap": "round", opacity: 0.55 }),
    svg("circle", { cx: scale(line.mean), cy: 8, r: 4, fill: colourOf(line.model) }),
  );
  return el("td", { class: "interval", title: words }, picture, el("span", { class: "sub" }, words));
}

// The paired difference to the best model, with its interval.
function differenceCell(line) {
  if (!isNumber(line.difference)) return el("td", {}, "–");
  const { ci_low: low, ci_high: high } = line.test;
  return el("td", {}, signed(line.difference), el("span", { class: "sub" }, `${signed(low)} to ${signed(high)}`));
}

function boardCell(line, column, scale) {
  switch (column.key) {
    case "model": {
      const tag = line.measured ? null : el("span", { class: "tag" }, "published");
      return el("th", { scope: "row" }, line.model, tag, line.note ? el("span", { class: "sub" }, line.note) : null);
    }
    case "mean": return el("td", { class: "mean" }, score(line.mean), line.p !== null && line.p >= LEVEL ? "†" : "");
    case "ci_low": return intervalCell(line, scale);
    case "std": return el("td", {}, score(line.std));
    case "difference": return differenceCell(line);
    case "effect_size": return el("td", {}, isNumber(line.effect_size) ? line.effect_size.toFixed(3) : "–");
    case "epochs": {
      const [ran, best] = (line.epochs ?? "–").split(", ");
      return el("td", { class: "left" }, ran, best ? el("span", { class: "sub" }, best) : null);
    }
    case "p": return el("td", {}, line.best ? "best" : pValue(line.p));
    case "train_cpu_seconds": return el("td", {}, seconds(line.train_cpu_seconds));
    case "peak_rss_bytes": return el("td", {}, bytes(line.peak_rss_bytes));
    default: return el("td", {}, count(line[column.key]));
  }
}

function boardLegend(lines) {
  const direction = lowerIsBetter(state.metric) ? "lower" : "higher";
  const words = [`${state.metric}: ${direction} is better.`];
  const tested = lines.find((line) => line.test);
  if (tested)
    words.push(
      `Bold: the best measured mean; †: not significantly behind it (paired sign-flip test over users, p ≥ ${LEVEL} after Holm's correction over the domains and models of this protocol). To the best: mean paired difference over users, the model less the best, and its 95 % interval; d: that mean over the standard deviation.`,
    );
  else if (DATA.tests.some((test) => test.dataset === state.dataset && test.protocol === state.protocol))
    words.push(`Tests were made for ${DATA.lead[state.protocol]} over all targets alone.`);
  const sized = lines.find((line) => isNumber(line.n_targets));
  if (sized) words.push(`${count(sized.n_targets)} targets.`);
  words.push("Interval: the central 95 % of a bootstrap over users; ±: standard deviation over seeds.");
  if (lines.some((line) => !line.measured)) words.push("Published numbers are other people's, tested against nothing.");
  return words.join(" ");
}

function drawBoard(section) {
  const lines = boardLines();
  const columns = boardColumns(lines);
  const at = (key) => columns.find((column) => column.key === key);
  const chosen = at(sorting.column) ?? at("mean");
  if (sorting.column === null) sorting.descending = !lowerIsBetter(state.metric);
  const low = Math.min(...lines.map((line) => line.ci_low ?? line.mean)),
    high = Math.max(...lines.map((line) => line.ci_high ?? line.mean));
  const scale = linear(low, high, 6, 114);
  const ordered = sortedLines(lines, chosen);
  const cut = sorting.all ? ordered : ordered.slice(0, LINES);
  const head = columns.map((column) => {
    const active = column === chosen;
    const direction = active ? (sorting.descending ? "descending" : "ascending") : "none";
    const button = el("button", { type: "button", "data-key": column.key, onclick: () => sortBy(column, active) },
      column.title);
    return el("th", { scope: "col", "aria-sort": direction, class: column.text ? "left" : null }, button);
  });
  const body = el("tbody", {});
  for (const line of cut) {
    const kind = line.best ? "best" : line.measured ? null : "published";
    body.append(el("tr", { class: kind }, columns.map((column) => boardCell(line, column, scale))));
  }
  const failed = ROWS.filter((row) => row.dataset === state.dataset && row.status !== "ok");
  const failures = el("tbody", {});
  for (const row of failed) {
    const where = el("span", { class: "sub" }, [row.domain, row.note].filter(Boolean).join(", "));
    const name = el("th", { scope: "row" }, row.model, el("span", { class: "tag" }, "failed"), where);
    failures.append(el("tr", { class: "failed" }, name, el("td", { colspan: columns.length - 1 }, row.status)));
  }
  const caption = el("caption", { class: "hidden" },
    `Leaderboard: ${state.dataset}, ${state.protocol}, ${state.domain}, ${state.metric}`);
  const table = el("table", { id: "board" }, caption, el("thead", {}, el("tr", {}, head)), body, failures);
  section.append(el("div", { class: "card board scroll", tabindex: 0, role: "region", "aria-label": "Leaderboard" },
    table));
  if (!lines.length) section.append(el("p", { class: "note" }, "No number yet for this choice."));
  if (cut.length < ordered.length)
    section.append(el("p", {}, el("button",
      { class: "more", type: "button", onclick: () => { sorting.all = true; redraw("leaderboard"); } },
      `Show all ${ordered.length} lines`)));
  section.append(el("p", { class: "legend" }, boardLegend(lines)));
}

function sortBy(column, active) {
  sorting.descending = active ? !sorting.descending : column.text ? false
    : !(["p", "std", "train_cpu_seconds", "peak_rss_bytes", "parameters"].includes(column.key)
    || (["mean", "ci_low"].includes(column.key) && lowerIsBetter(state.metric)));
  sorting.column = column.key;
  redraw("leaderboard");
  document.querySelector(`#board button[data-key="${column.key}"]`).focus({ preventScroll: true });
}
