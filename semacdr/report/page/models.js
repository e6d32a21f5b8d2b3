// What needs a trained model: weights of views and threads, and what each model shows some users.
function drawWeights(section, width) {
  const entry = datasetEntry();
  const kinds = [
    ["gates", "Text views of an item", "Mean gate of each view over the items of a domain."],
    ["threads", "Threads of a user",
      "Mean weight of each thread over test users, by the domain that is ranked: source is what they did in other domains, target in this one, mixed both."],
  ];
  const grid = el("div", { class: "grid wide" });
  const drawn = kinds.filter(([kind]) => entry.weights.some((model) => Object.keys(model[kind]).length));
  const inner = panelWidth(width, 26, drawn.length);
  for (const [kind, title, note] of drawn) {
    const lines = entry.weights.flatMap((model) => Object.entries(model[kind]).map(([domain,
      shares]) => ({ name: `${model.model}, ${domain}`, shares })));
    const parts = distinct(lines.flatMap((line) => Object.keys(line.shares)));
    const step = 42, picture = canvas(inner, lines.length * step + 2);
    lines.forEach((line, at) => {
      const y = at * step;
      let from = 0;
      picture.append(svg("text", { x: 0, y: y + 13 }, line.name));
      parts.forEach((part, index) => {
        const share = line.shares[part] ?? 0, wide = share * inner;
        picture.append(svg("rect", { class: "mark", x: from, y: y + 19, width: Math.max(0, wide - 1.5), height: 16,
          rx: 2, fill: `var(--c${(index + 3) % COLOURS})` }));
        if (wide > 34) picture.append(svg("text",
          { x: from + wide / 2, y: y + 31, "text-anchor": "middle", style: "fill:var(--card)", class: "strong" },
          `${Math.round(share * 100)} %`));
        from += wide;
      });
    });
    const key = el("ul", { class: "key" },
      parts.map((part, index) => el("li", {},
      svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" },
      svg("rect", { x: 1, y: 1, width: 10, height: 10, rx: 2, fill: `var(--c${(index + 3) % COLOURS})` })), part)));
    grid.append(figure(title, `${note} ${lines.length} lines.`, picture, ["Model and domain", ...parts],
      () => lines.map((line) => [line.name,
      ...parts.map((part) => (isNumber(line.shares[part]) ? line.shares[part].toFixed(3) : "–"))]),
      el("div", {}, el("p", { class: "sub" }, note), key)));
  }
  section.append(grid);
}

function drawExamples(section) {
  const entry = datasetEntry();
  const name = (item) => titleOf(entry, item);
  for (const [at, user] of entry.examples.entries()) {
    const seen = user.history.length;
    const span = user.events > seen ? `, last ${seen} of ${user.events}` : "";
    const events = el("ol", { start: user.events - seen + 1 }, user.history.map((item) => el("li", {}, name(item))));
    const past = el("div", { class: "card past" }, el("h3", {}, `History${span}`), events);
    const place = (item) => {
      if (item !== user.target) return el("li", {}, name(item));
      return el("li", { class: "hit" }, "✓ ", name(item), el("span", { class: "hidden" }, " (the held-out item)"));
    };
    const lists = user.models.map((model) =>
      el("div", { class: "card" }, el("h3", {}, model.model), el("ol", {}, model.top.map(place))),
    );
    const heading = el("summary", {}, el("h3", {}, `User ${user.user}, to be shown ${user.domain}`));
    section.append(el("details", { class: "person", open: at < 2 }, heading,
      el("p", {}, "What came next, held out from all models: ",
      el("span", { class: "hit" }, `✓ ${name(user.target)}`)), el("div", { class: "lists" }, past, lists)));
  }
}
