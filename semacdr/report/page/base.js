// The data, what is chosen, and how elements and numbers are made. Texts only ever become text nodes.
const DATA = JSON.parse(document.getElementById("data").textContent);
const ROWS = DATA.rows.map((row) => Object.fromEntries(DATA.columns.map((name, at) => [name, row[at]])));
const ERRORS = new Set(["mse", "mae", "rmse"]);
const COLOURS = 8;
const state = { dataset: null, protocol: null, domain: null, metric: null, subset: null, shown: new Set() };

const distinct = (values) => [...new Set(values)];
const lowerIsBetter = (metric) => ERRORS.has(metric);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Four digits as leaderboard.md has them: a half, which only a multiple of 1/32 can be, goes to the even digit.
function score(value) {
  if (!isNumber(value)) return "–";
  const half = Math.abs(value * 32) % 2 === 1, exact = value.toFixed(5);
  return half && "02468".includes(exact.at(-2)) ? exact.slice(0, -1) : value.toFixed(4);
}

const signed = (value) => (value > 0 ? "+" : "") + score(value);

function seconds(value) {
  if (!isNumber(value)) return "–";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${value.toFixed(0)} s`;
  return value < 7200 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(1)} h`;
}

function bytes(value) {
  if (!isNumber(value)) return "–";
  return value < 2 ** 30 ? `${(value / 2 ** 20).toFixed(0)} MiB` : `${(value / 2 ** 30).toFixed(1)} GiB`;
}

function count(value) {
  return isNumber(value) ? value.toLocaleString("en") : "–";
}

function pValue(value) {
  if (!isNumber(value)) return "–";
  return value >= 0.001 ? value.toFixed(3) : "< 0.001";
}

// The rows of the chosen data set that have a number.
const numbers = () => ROWS.filter((row) => row.dataset === state.dataset && isNumber(row.mean));
const datasetEntry = () => DATA.datasets.find((entry) => entry.name === state.dataset);

function domainsOf(rows) {
  const names = distinct(rows.map((row) => row.domain));
  return [...names.filter((name) => name !== "all"), ...names.filter((name) => name === "all")];
}

// Measured models of the data set, best first by the metric that counts; a model keeps its colour in every picture.
let orders = new Map();
function models() {
  if (orders.has(state.dataset)) return orders.get(state.dataset);
  const best = new Map();
  for (const row of numbers()) {
    const metric = DATA.lead[row.protocol];
    if (row.source !== "measured" || row.subset !== "all" || row.metric !== metric) continue;
    const value = lowerIsBetter(metric) ? row.mean : -row.mean;
    if (!best.has(row.model) || (row.domain === "all" && !best.get(row.model).whole))
      best.set(row.model, { value, whole: row.domain === "all" });
  }
  const order = [...best.keys()].sort((a, b) => best.get(a).value - best.get(b).value);
  for (const entry of DATA.curves)
    if (entry.dataset === state.dataset && !order.includes(entry.model)) order.push(entry.model);
  orders.set(state.dataset, order);
  return order;
}

const colourOf = (model) => `var(--c${Math.max(0, models().indexOf(model)) % COLOURS})`;

// Names of subsets for a reader.
function subsetName(name) {
  if (name === "all") return "all targets";
  if (name === "strict") return "strict (a later day)";
  return name.replace(/^item (.*)$/, "items with $1 training events").replace(/^user (.*)$/,
    "users with $1 events there");
}

const titleOf = (entry, item) => (entry.item_titles && entry.item_titles[item]) || entry.items[item];

// A plain table; `cells` may be numbers or texts, the first of a line is its head.
function plainTable(title, head, lines) {
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}, as a table` },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, lines.map((line) => el("tr", {}, line.map((cell, at) =>
        at ? el("td", {}, String(cell)) : el("th", { scope: "row" }, String(cell)))))),
    ),
  );
}

// A picture with its heading and, behind a summary, the same as a table, which is made when it is opened.
let figures = 0;
function figure(title, description, picture, head, lines, before = null) {
  const id = `figure-${++figures}`;
  const details = el("details", {}, el("summary", {}, "The same as a table"));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(plainTable(title, head, lines()));
  });
  if (picture.tagName === "svg") {
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-labelledby", `${id}-title ${id}-desc`);
    picture.prepend(svg("title", { id: `${id}-title` }, title), svg("desc", { id: `${id}-desc` }, description));
  }
  return el("figure", { class: "card" }, el("figcaption", {}, el("h3", {}, title)), before, picture, details);
}
