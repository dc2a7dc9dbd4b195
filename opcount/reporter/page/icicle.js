// The icicle: one cell a module, as wide as its share.

import { colorOf } from "./colors.js";
import { report, comparing, NOW } from "./data.js";
import { byId, element } from "./dom.js";
import { layout } from "./layout.js";
import { metricOf } from "./metrics.js";
import { percent, plural, relative, si } from "./numbers.js";
import { hasMatch, isMatch, isSearching } from "./search.js";
import { state, subscribe, update } from "./state.js";
import { sizes, totals } from "./totals.js";

const HEIGHT = 400; // of the chart, as far as the rows' limits allow
const LOWEST = 27;
const HIGHEST = 78;
const TWO_LINES = 42;
const NARROW = 26;

const cells = new Map(); // by module
let rests = [];

export function showIcicle() {
  const box = byId("icicle");
  subscribe(["metric", "phase", "zoom", "query"], draw);
  box.addEventListener("mouseleave", () => update({ pointed: null }));
  let drawn = box.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(box.clientWidth - drawn) > 1) draw();
    drawn = box.clientWidth;
  }).observe(box);
}

export function cellOf(index) {
  return cells.get(index)?.node;
}

export function drawnCells() {
  return [...cells.values()];
}

function draw() {
  const box = byId("icicle");
  const pixels = box.clientWidth || 1000;
  const placed = layout(sizes(state.metric, state.phase), state.zoom, pixels);
  const rows = 1 + Math.max(-1, ...placed.map((cell) => cell.row));
  const height = Math.max(LOWEST, Math.min(HIGHEST, Math.floor(HEIGHT / rows)));
  const hadFocus = box.contains(document.activeElement);
  const stale = new Set(cells.keys());
  for (const rest of rests) rest.remove();
  rests = [];
  for (const cell of placed) {
    if (cell.module) stale.delete(cell.module.index);
    if (cell.module) show(box, cell, pixels, height);
    else box.append(showRest(cell, height));
  }
  for (const index of stale) {
    cells.get(index).node.remove();
    cells.delete(index);
  }
  box.style.height = `${rows * height}px`;
  box.classList.toggle("tall", height >= TWO_LINES);
  showEmpty(placed.length === 0);
  const top = cellOf(state.zoom);
  if (top) top.tabIndex = 0;
  if (hadFocus && !box.contains(document.activeElement)) top?.focus();
}

function show(box, cell, pixels, height) {
  const { module } = cell;
  const known = cells.get(module.index);
  const node = known?.node ?? make(box, module);
  cells.set(module.index, { ...cell, node });
  place(node, cell, height);
  const name = module.path === "" ? "model" : module.name;
  const number = describe(module);
  const narrow = cell.width * pixels < NARROW;
  node.classList.toggle("narrow", narrow);
  mark(node, isMatch(module.index));
  node.style.setProperty("background", colorOf(module, state.metric, state.phase));
  node.replaceChildren(
    ...(narrow ? [] : [element("span", { class: "name" }, name), element("span", { class: "value" }, number)]),
  );
  node.setAttribute("aria-label", `${module.path || "model"}, ${module.type || "no type"}, ${number}`);
  node.setAttribute("aria-level", module.level + 1);
  node.tabIndex = -1;
}

function make(box, module) {
  const node = element("button", {
    type: "button",
    class: module.gone ? "cell gone" : "cell",
    role: "treeitem",
    "data-path": module.path,
    on: {
      click: () => update({ zoom: module.index, pointed: null }),
      mouseenter: () => update({ pointed: module.index }),
      focus: () => update({ pointed: module.index }),
    },
  });
  box.append(node);
  return node;
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

function describe(module) {
  const now = totals(state.metric, state.phase, NOW).total;
  if (comparing) return `${si(now[module.index])} (${relative(totals(state.metric, state.phase, 0).total[module.index], now[module.index])})`;
  return `${si(now[module.index])}, ${percent(now[module.index], now[0])}`;
}

function showEmpty(isEmpty) {
  const note = byId("empty");
  note.hidden = !isEmpty;
  const phase = report.phases[state.phase];
  const where = state.zoom ? ` in ${report.modules[state.zoom].path}` : "";
  note.textContent = `No ${metricOf(state.metric).label}${where}${phase ? `, phase ${phase}` : ""}.`;
}
