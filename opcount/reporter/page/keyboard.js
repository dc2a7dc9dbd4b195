// Keys, as the help lists them.

import { ALL, report, ROOT } from "./data.js";
import { byId } from "./dom.js";
import { childrenOf } from "./folding.js";
import { cellOf, drawnCells, top } from "./icicle.js";
import { metricOf, metrics } from "./metrics.js";
import { state, update } from "./state.js";
import { nextTheme } from "./theme.js";

export function followKeys() {
  byId("help").addEventListener("click", () => byId("keys").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, dialog, table")) return;
    const action = inIcicle(event) ?? anywhere(event.key);
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function anywhere(key) {
  const metric = metrics()[key - 1];
  if (metric) return () => update({ metric: metric.key });
  return {
    "/": () => byId("query").focus(),
    "?": () => byId("keys").showModal(),
    p: nextPhase,
    c: () => update({ convention: (state.convention + 1) % report.conventions.length }),
    t: nextTheme,
    Escape: back,
    Home: () => update({ zoom: ROOT, pointed: null }),
  }[key];
}

// Undoes the last opening of equal modules, else zooms out by one.
function back() {
  if (state.unfolded.length) update({ unfolded: state.unfolded.slice(0, -1), pointed: null });
  else update({ zoom: report.modules[state.zoom].parent ?? ROOT, pointed: null });
}

function nextPhase() {
  if (metricOf(state.metric).still || report.phases.length < 2) return;
  update({ phase: state.phase + 1 < report.phases.length ? state.phase + 1 : ALL });
}

function inIcicle({ key, target }) {
  const here = drawnCells().find((cell) => cell.node === target);
  if (!here) return null;
  return {
    ArrowDown: () => childrenOf(here.line).map(cellOf).find(Boolean)?.focus(),
    ArrowUp: () => up(here),
    ArrowLeft: () => sibling(here, -1),
    ArrowRight: () => sibling(here, 1),
  }[key];
}

function up({ line, row, left }) {
  const { parent } = line.module;
  const above = drawnCells().filter((cell) => cell.row === row - 1 && cell.left <= left + 1e-9);
  if (row) above.reduce((a, b) => (b.left > a.left ? b : a)).node.focus();
  else if (parent !== null) {
    update({ zoom: parent });
    cellOf(top())?.focus();
  }
}

function sibling(here, step) {
  const row = drawnCells().filter((cell) => cell.row === here.row).sort((a, b) => a.left - b.left);
  row[row.indexOf(here) + step]?.node.focus();
}
