// The map of the item space: points to look at, to point at and to walk along with the arrow keys.
const mapChoice = { model: null };

function drawMap(section, width) {
  const entry = datasetEntry();
  const maps = entry.maps;
  const map = maps.find((each) => each.model === mapChoice.model) ?? maps[0];
  if (maps.length > 1) {
    const select = el("select", { id: "map-model",
      onchange: (event) => { mapChoice.model = event.target.value; redraw("map");
      document.getElementById("map-model").focus(); } },
      maps.map((each) => el("option", { value: each.model, selected: each === map }, each.model)));
    section.append(el("label", { class: "field", style: "margin-bottom:.8rem" }, "Item vectors of", select));
  }
  const inner = width - 38, height = Math.round(Math.min(inner * 0.68 + 40, 600)), pad = 14;
  const picture = canvas(inner, height);
  const places = map.items.map((item, at) => ({ item, domain: map.domain[at], x: pad + map.x[at] * (inner - 2 * pad),
    y: height - pad - map.y[at] * (height - 2 * pad) }));
  const group = svg("g", { opacity: 0.75 });
  for (const place of places) group.append(mark(SHAPES[place.domain % SHAPES.length], place.x, place.y,
    places.length > 800 ? (inner < 600 ? 1.9 : 2.6) : 3.6, { fill: `var(--c${place.domain % COLOURS})` }));
  const ring = svg("circle", { r: 8, fill: "none", stroke: "var(--ink)", "stroke-width": 2, visibility: "hidden" });
  picture.append(group, ring);
  const words = (place) => [titleOf(entry, place.item),
    `${entry.domains[place.domain]}${entry.item_titles ? `, ${entry.items[place.item]}` : ""}`];
  const tip = el("div", { class: "tip", hidden: true });
  const spoken = el("p", { class: "hidden", "aria-live": "polite" });
  let current = -1;
  const show = (at, aloud) => {
    current = at;
    const place = places[at], [title, below] = words(place), rect = picture.getBoundingClientRect(),
      scale = rect.width / inner;
    ring.setAttribute("cx", place.x); ring.setAttribute("cy", place.y); ring.setAttribute("visibility", "visible");
    tip.replaceChildren(title, el("small", {}, below));
    tip.hidden = false;
    const left = place.x * scale, flip = left > rect.width * 0.6;
    tip.style.left = flip ? "" : `${left + 14}px`;
    tip.style.right = flip ? `${rect.width - left + 14}px` : "";
    tip.style.top = `${Math.max(0, Math.min(place.y * scale - 12, rect.height - 60))}px`;
    if (aloud) spoken.textContent = `${title}, ${below}`;
  };
  const hide = () => { tip.hidden = true; ring.setAttribute("visibility", "hidden"); };
  const nearest = (x, y, within, allowed = () => true) => {
    let best = -1, distance = within * within;
    places.forEach((place, at) => {
      const far = (place.x - x) ** 2 + (place.y - y) ** 2;
      if (far < distance && allowed(place, at)) { best = at; distance = far; }
    });
    return best;
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const board = el("div", {
    class: "map", tabindex: 0, role: "group", "aria-label": "Map of the items. Arrow keys go from item to item.",
    onpointermove: (event) => {
      const rect = picture.getBoundingClientRect(), scale = inner / rect.width;
      const at = nearest((event.clientX - rect.left) * scale, (event.clientY - rect.top) * scale, 24);
      if (at < 0) hide(); else show(at, false);
    },
    onpointerleave: hide,
    onfocus: () => { if (places.length && board.matches(":focus-visible")) show(current < 0
      ? nearest(inner / 2, height / 2, Infinity) : current, true); },
    onblur: hide,
    onkeydown: (event) => {
      if (event.key === "Escape") return hide();
      const step = arrows[event.key];
      if (!step || !places.length) return;
      event.preventDefault();
      const from = places[Math.max(current, 0)];
      const ahead = (place, at) => {
        const [dx, dy] = [place.x - from.x, place.y - from.y], along = dx * step[0] + dy * step[1];
        return at !== current && along > 0 && along >= Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
      };
      const next = nearest(from.x, from.y, Infinity, ahead);
      show(next < 0 ? Math.max(current, 0) : next, true);
    },
  });
  const key = el("ul", { class: "key" },
    entry.domains.map((domain, at) => el("li", {},
    svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" },
    mark(SHAPES[at % SHAPES.length], 6, 6, 4.5, { fill: `var(--c${at % COLOURS})` })), domain)));
  const title = `${map.model}, seed ${map.seed}`;
  const sampled = map.items.length < map.of ? `${count(map.items.length)} of ${count(map.of)} items, a sample`
    : `${count(map.items.length)} items`;
  const made = figure(title, `${sampled}, placed by ${map.method}, coloured by domain: ${entry.domains.join(", ")}.`,
    picture, ["Item", "Domain", "x", "y"],
    () => places.map((place, at) => [titleOf(entry, place.item), entry.domains[place.domain], map.x[at], map.y[at]]),
    key);
  board.append(tip, spoken);
  picture.replaceWith(board);
  board.prepend(picture);
  made.append(el("p", { class: "legend" },
    `${sampled}; ${map.method} of the vectors' directions. Near points are alike to the model; distances across the map mean little.`));
  section.append(made);
}
