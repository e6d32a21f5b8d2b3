// Bars of each domain, cold items and users, cost.
const BARS = 40; // in one picture; the table has all

// Horizontal bars, a line of text above each. Items: {label, value, low, high, colour, hollow}.
function bars(width, items, format) {
  const step = 38, right = width - 2;
  const top = Math.max(...items.map((item) => item.high ?? item.value), 0) || 1;
  const x = linear(0, top, 0, right);
  const picture = canvas(width, items.length * step + 2);
  items.forEach((item, at) => {
    const y = at * step;
    const most = Math.floor((width - 70) / 6.6);
    const label = item.label.length > most ? `${item.label.slice(0, most - 1)}…` : item.label;
    picture.append(
      svg("text", { x: 0, y: y + 13 }, label),
      svg("text", { x: right, y: y + 13, "text-anchor": "end", class: "strong" }, format(item.value)),
      svg("rect", { class: "track", x: 0, y: y + 19, width: right, height: 10, rx: 2 }),
      svg("rect", {
        class: "mark", x: item.hollow ? 0.75 : 0, y: y + (item.hollow ? 19.75 : 19),
          width: Math.max(1, x(item.value) - (item.hollow ? 1.5 : 0)), height: item.hollow ? 8.5 : 10, rx: 2,
        fill: item.hollow ? "none" : item.colour, stroke: item.hollow ? "var(--dim)" : null,
          "stroke-width": item.hollow ? 1.5 : null, "stroke-dasharray": item.hollow ? "4 3" : null,
      }),
    );
    if (isNumber(item.low)) picture.append(whisker(x(item.low), x(item.high), y + 24, false));
  });
  return picture;
}

const shownOf = (drawn, all) => (drawn < all ? `${drawn} of ${all}` : `${all}`);

function drawDomains(section, width) {
  const rows = numbers().filter((row) => row.protocol === state.protocol && row.metric === state.metric
    && row.subset === state.subset);
  const order = models();
  const place = (row) => (row.source === "measured" ? order.indexOf(row.model) : order.length);
  const grid = el("div", { class: "grid" });
  const domains = domainsOf(rows);
  const inner = panelWidth(width, 19, domains.length);
  for (const domain of domains) {
    const mine = rows.filter((row) => row.domain === domain).sort((a, b) => place(a) - place(b));
    const measured = mine.filter((row) => row.source === "measured");
    const most = Math.max(BARS / 2, BARS - measured.length); // published ones do not push ours out
    const published = mine.filter((row) => row.source !== "measured").slice(0, most);
    const kept = [...measured.slice(0, BARS - published.length), ...published];
    const items = kept.map((row) => ({
      label: row.source === "measured" ? row.model : `${row.model} (published)`, value: row.mean, low: row.ci_low,
        high: row.ci_high, colour: colourOf(row.model), hollow: row.source !== "measured",
    }));
    const best = (measured.length ? measured : mine).reduce((a, b) => ((lowerIsBetter(state.metric) ? b.mean < a.mean : b.mean > a.mean) ? b : a));
    const targets = mine.find((row) => row.n_targets)?.n_targets;
    const title = `${domain === "all" ? "All domains" : domain}${targets ? `, ${count(targets)} targets` : ""}`;
    const told = `${state.metric} of ${shownOf(items.length, mine.length)} models with intervals; the best is ${best.model}, ${score(best.mean)}.`;
    const lines = () => mine.map((row) => [row.model, score(row.mean), score(row.ci_low), score(row.ci_high), row.source]);
    const cut = items.length < mine.length
      ? el("p", { class: "sub" }, `${shownOf(items.length, mine.length)} models; the table has all`) : null;
    const head = ["Model", state.metric, "low", "high", "source"];
    grid.append(figure(title, told, bars(inner, items, score), head, lines, cut));
  }
  section.append(grid);
}

function drawBuckets(section, width) {
  const rows = numbers().filter((row) => row.source === "measured" && row.protocol === state.protocol
    && row.metric === state.metric && row.domain === state.domain);
  const kinds = [
    ["item", "Items by their training events", "training events of the item"],
    ["user", "Users by their events in the domain", "events of the user in the domain"],
  ];
  const grid = el("div", { class: "grid wide" });
  const inner = panelWidth(width, 26, 2);
  for (const [kind, title, axis] of kinds) {
    const all = rows.filter((row) => row.subset.startsWith(`${kind} `));
    if (!all.length) continue;
    const buckets = distinct(all.map((row) => row.subset)).sort((a, b) => bucketStart(a) - bucketStart(b));
    const shown = models().filter((model) => state.shown.has(model) && all.some((row) => row.model === model));
    const mine = all.filter((row) => shown.includes(row.model));
    const top = Math.max(...mine.map((row) => row.ci_high ?? row.mean), 1e-9);
    const height = 250, box = { left: 46, right: inner - 8, top: 10, bottom: height - 44 };
    const y = linear(0, top, box.bottom, box.top);
    const picture = canvas(inner, height);
    frame(picture, box, ticks(0, top), y);
    const slot = (box.right - box.left) / buckets.length;
    const targets = (bucket) => all.find((row) => row.subset === bucket)?.n_targets;
    buckets.forEach((bucket, at) =>
      picture.append(
        svg("text", { x: box.left + slot * (at + 0.5), y: box.bottom + 17, "text-anchor": "middle" },
          bucket.replace(`${kind} `, "")),
        svg("text", { class: "dim", x: box.left + slot * (at + 0.5), y: box.bottom + 33, "text-anchor": "middle",
          "font-size": 11 }, `${count(targets(bucket))} targets`),
      ),
    );
    shown.forEach((model, index) => {
      const dodge = shown.length > 1 ? (index / (shown.length - 1) - 0.5) * Math.min(slot * 0.55, 70) : 0;
      const rowOf = (bucket) => mine.find((row) => row.model === model && row.subset === bucket);
      const points = buckets
        .map((bucket, at) => ({ row: rowOf(bucket), x: box.left + slot * (at + 0.5) + dodge }))
        .filter((point) => point.row);
      const colour = colourOf(model), dashes = dashOf(model);
      const line = points.map(({ row, x }, at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y(row.mean).toFixed(1)}`).join("");
      const stroke = { fill: "none", stroke: colour, "stroke-width": 1.3, "stroke-dasharray": dashes, opacity: 0.55 };
      picture.append(svg("path", { d: line, ...stroke }));
      for (const { row, x } of points) {
        const ends = isNumber(row.ci_low) ? { x1: x, x2: x, y1: y(row.ci_low), y2: y(row.ci_high) } : null;
        if (ends) picture.append(svg("line", { ...ends, stroke: colour, "stroke-width": 1.6 }));
        const look = { fill: colour, class: "mark halo", "stroke-width": 1 };
        picture.append(mark(shapeOf(model), x, y(row.mean), 4.2, look));
      }
    });
    const bucketName = (row) => row.subset.replace(`${kind} `, "");
    const told = `${state.metric} of ${shown.length} models, by ${axis}.`;
    const head = ["Model", axis, state.metric, "low", "high", "targets"];
    const values = (row) => [score(row.mean), score(row.ci_low), score(row.ci_high), count(row.n_targets)];
    const lines = () => all.map((row) => [row.model, bucketName(row), ...values(row)]);
    grid.append(figure(title, told, picture, head, lines, el("p", { class: "sub" }, `${state.metric}, by ${axis}`)));
  }
  if (!grid.children.length) grid.append(el("p", { class: "note" }, "No buckets were evaluated for this choice."));
  section.append(grid);
}

const bucketStart = (subset) => parseInt(subset.replace(/^\D+/, ""), 10) + (subset.includes(">") ? 0.5 : 0);

function drawCosts(section, width) {
  const mine = DATA.costs.filter((cost) => cost.dataset === state.dataset);
  const panels = [
    ["train_cpu_seconds", "CPU seconds of training", seconds],
    ["peak_rss_bytes", "Peak memory", bytes],
    ["parameters", "Parameters", count],
  ];
  const grid = el("div", { class: "grid" });
  const inner = panelWidth(width, 19, 3);
  for (const [key, title, format] of panels) {
    const rows = mine.filter((cost) => isNumber(cost[key])).sort((a, b) => b[key] - a[key]);
    if (!rows.length) continue;
    const name = (cost) => (cost.domain ? `${cost.model}, ${cost.domain}` : cost.model);
    const items = rows.slice(0, BARS)
      .map((cost) => ({ label: name(cost), value: cost[key], colour: colourOf(cost.model) }));
    grid.append(
      figure(title, `${title} of ${rows.length} models; the most: ${name(rows[0])} with ${format(rows[0][key])}.`,
        bars(inner, items, format), ["Model", title, "device"],
        () => rows.map((cost) => [name(cost), format(cost[key]), cost.device ?? "–"])),
    );
  }
  section.append(grid);
}
