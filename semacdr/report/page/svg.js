// Small pieces of pictures: elements, scales, axes, marks.
function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null
    && value !== undefined) made.setAttribute(name, value);
  made.append(...children.flat());
  return made;
}

const canvas = (width, height) => svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height });

// Round values that span a range, at most about `most` of them.
function ticks(low, high, most = 5) {
  if (!(high > low)) return [low];
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((unit) => unit * power).find((unit) => unit >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9;
    at++) found.push(+(at * step).toPrecision(12));
  return found;
}

const linear = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
const short = (value) => String(+value.toPrecision(4));

// The place of a model's mark: shape and dashes tell what colour does not.
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
const DASHES = [null, "6 3", "2 3", "8 3 2 3", "12 4"];
function mark(shape, x, y, r, attributes = {}) {
  const at = (dx, dy) => `${(x + dx * r).toFixed(2)} ${(y + dy * r).toFixed(2)}`;
  const paths = {
    square: () => `M${at(-0.88, -0.88)}L${at(0.88, -0.88)}L${at(0.88, 0.88)}L${at(-0.88, 0.88)}Z`,
    triangle: () => `M${at(0, -1.2)}L${at(1.1, 0.8)}L${at(-1.1, 0.8)}Z`,
    diamond: () => `M${at(0, -1.3)}L${at(1.1, 0)}L${at(0, 1.3)}L${at(-1.1, 0)}Z`,
    cross: () => `M${at(-0.35, -1)}L${at(0.35, -1)}L${at(0.35, -0.35)}L${at(1, -0.35)}L${at(1, 0.35)}L${at(0.35, 0.35)}L${at(0.35, 1)}L${at(-0.35, 1)}L${at(-0.35, 0.35)}L${at(-1, 0.35)}L${at(-1, -0.35)}L${at(-0.35, -0.35)}Z`,
  };
  if (shape === "circle") return svg("circle", { class: "mark", cx: x, cy: y, r, ...attributes });
  return svg("path", { class: "mark", d: paths[shape](), ...attributes });
}

const shapeOf = (model) => SHAPES[Math.max(0, models().indexOf(model)) % SHAPES.length];
const dashOf = (model) => DASHES[Math.floor(Math.max(0, models().indexOf(model)) / COLOURS) % DASHES.length];

function swatch(model) {
  return svg(
    "svg",
    { viewBox: "0 0 22 12", "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 22, y1: 6, y2: 6, stroke: colourOf(model), "stroke-width": 2,
      "stroke-dasharray": dashOf(model) }),
    mark(shapeOf(model), 11, 6, 4, { fill: colourOf(model) }),
  );
}

// Horizontal lines with their values, and the words of both axes.
function frame(picture, box, yTicks, y, yFormat = short) {
  for (const value of yTicks) {
    picture.append(
      svg("line", { class: "rule", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "dim", x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, yFormat(value)),
    );
  }
}

// A whisker from low to high at one height or one column.
function whisker(low, high, across, upright) {
  const [a, b, c] = [low, high, across];
  const d = upright ? `M${c - 3} ${a}h6M${c} ${a}V${b}M${c - 3} ${b}h6`
    : `M${a} ${c - 3}v6M${a} ${c}H${b}M${b} ${c - 3}v6`;
  const halo = svg("path", { d, fill: "none", stroke: "var(--card)", "stroke-width": 3.6, opacity: 0.75 });
  return svg("g", {}, halo, svg("path", { class: "whisker", d, fill: "none" }));
}
