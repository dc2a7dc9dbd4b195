// The icicle: one cell a module, or for equal ones in a row; as wide as its share.

import { colorOf } from "./colors.js";
import { report, comparing, NOW } from "./data.js";
import { byId, element } from "./dom.js";
import { choose, lineOf } from "./folding.js";
import { fitting } from "./labels.js";
import { layout } from "./layout.js";
import { inShort, labelOf } from "./metrics.js";
import { percent, plural, relative } from "./numbers.js";
import { hasMatch, isMatch, isSearching } from "./search.js";
import { NUMBERS, state, subscribe, update } from "./state.js";
import { sizes, totals } from "./totals.js";

const HEIGHT = 400; // of the chart, as far as the rows' limits allow
const LOWEST = 27;
const HIGHEST = 78;
const TWO_LINES = 42;
const NARROW = 26;

const cells = new Map(); // by first module, and how many it stands for
let rests = [];

export function showIcicle() {
  const box = byId("icicle");
  subscribe([...NUMBERS, "zoom", "query", "unfolded", "folds"], draw);
  box.addEventListener("mouseleave", () => update({ pointed: null }));
  let drawn = box.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(box.clientWidth - drawn) > 1) draw();
    drawn = box.clientWidth;
  }).observe(box);
}

export function cellOf(line) {
  return cells.get(keyOf(line))?.node;
}

export function drawnCells() {
  return [...cells.values()];
}

export function top() {
  return lineOf(report.modules[state.zoom]);
}

function keyOf({ module, modules }) {
  return `${module.index} ${modules.length}`;
}

function draw() {
  const box = byId("icicle");
  const pixels = box.clientWidth || 1000;
  const placed = layout(sizes(state.metric, state.phase), top(), pixels);
  const rows = 1 + Math.max(-1, ...placed.map((cell) => cell.row));
  const height = Math.max(LOWEST, Math.min(HIGHEST, Math.floor(HEIGHT / rows)));
  const hadFocus = box.contains(document.activeElement);
  const stale = new Set(cells.keys());
  for (const rest of rests) rest.remove();
  rests = [];
  for (const cell of placed) {
    if (cell.line) stale.delete(keyOf(cell.line));
    if (cell.line) show(box, cell, pixels, height);
    else box.append(showRest(cell, height));
  }
  for (const key of stale) {
    cells.get(key).node.remove();
    cells.delete(key);
  }
  box.style.height = `${rows * height}px`;
  box.classList.toggle("tall", height >= TWO_LINES);
  showEmpty(placed.length === 0);
  const first = cellOf(top());
  if (first) first.tabIndex = 0;
  if (hadFocus && !box.contains(document.activeElement)) first?.focus();
}

function show(box, cell, pixels, height) {
  const { line } = cell;
  const node = cells.get(keyOf(line))?.node ?? make(box, line);
  cells.set(keyOf(line), { ...cell, node });
  place(node, cell, height);
  const number = describe(line);
  const width = cell.width * pixels;
  const narrow = width < NARROW;
  node.classList.toggle("narrow", narrow);
  mark(node, line.modules.some(({ index }) => isMatch(index)));
  node.style.setProperty("background", colorOf(line.module, state.metric, state.phase));
  node.replaceChildren(...(narrow ? [] : fitting(nameOf(line), number, width, height >= TWO_LINES)));
  node.title = `${line.path || "model"}, ${line.module.type || "no type"}, ${number}`;
  node.setAttribute("aria-label", node.title);
  node.setAttribute("aria-level", line.level + 1);
  node.tabIndex = -1;
}

function make(box, line) {
  const node = element("button", {
    type: "button",
    class: ["cell", line.module.gone && "gone", line.run > 1 && "run"].filter(Boolean).join(" "),
    role: "treeitem",
    "data-path": line.path,
    "aria-expanded": line.folded !== null && "false",
    on: {
      click: () => choose(line),
      mouseenter: () => update({ pointed: line }),
      focus: () => update({ pointed: line }),
    },
  });
  box.append(node);
  return node;
}

// Several in a row bear their parent's name, as in layers.0-31 x32: alone, a number says little.
function nameOf(line) {
  const parent = report.modules[line.module.parent]?.name;
  return line.run > 1 && parent ? `${parent}.${line.name}` : line.name;
}

function showRest(cell, height) {
  const what = `${plural(cell.thin.length, "small module")} of ${cell.parent.path || "model"}`;
  const node = element("div", { class: "cell rest", title: what, role: "presentation" });
  mark(node, cell.thin.some(({ index }) => hasMatch(index)));
  place(node, cell, height);
  rests.push(node);
  return node;
}

function mark(node, isFound) {
  node.classList.toggle("dimmed", !isFound);
  node.classList.toggle("matching", isSearching() && isFound);
}

function place(node, cell, height) {
  node.style.left = `${100 * cell.left}%`;
  node.style.width = `${100 * cell.width}%`;
  node.style.top = `${height * cell.row}px`;
  node.style.height = `${height - 2}px`;
}

function describe({ module, modules }) {
  const now = totals(state.metric, state.phase, NOW).total;
  const sum = modules.length * now[module.index];
  if (!comparing) return `${inShort(state.metric, sum)}, ${percent(sum, now[0])}`;
  return `${inShort(state.metric, sum)} (${relative(totals(state.metric, state.phase, 0).total[module.index], now[module.index])})`;
}

function showEmpty(isEmpty) {
  const note = byId("empty");
  note.hidden = !isEmpty;
  const phase = report.phases[state.phase];
  const where = state.zoom ? ` in ${report.modules[state.zoom].path}` : "";
  note.textContent = `No ${labelOf(state.metric)}${where}${phase ? `, phase ${phase}` : ""}.`;
}
