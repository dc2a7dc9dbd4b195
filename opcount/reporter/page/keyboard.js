// Keys, as the help lists them.

import { report, ROOT } from "./data.js";
import { byId } from "./dom.js";
import { cellOf, drawnCells } from "./icicle.js";
import { METRICS, metricOf } from "./metrics.js";
import { state, update } from "./state.js";
import { nextTheme } from "./theme.js";
import { ALL } from "./totals.js";

export function followKeys() {
  byId("help").addEventListener("click", () => byId("keys").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, dialog, table")) return;
    const action = inIcicle(event) ?? anywhere(event.key);
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function anywhere(key) {
  if (METRICS[key - 1]) return () => update({ metric: METRICS[key - 1].key });
  return {
    "/": () => byId("query").focus(),
    "?": () => byId("keys").showModal(),
    p: nextPhase,
    t: nextTheme,
    Escape: () => update({ zoom: report.modules[state.zoom].parent ?? ROOT, pointed: null }),
    Home: () => update({ zoom: ROOT, pointed: null }),
  }[key];
}

function nextPhase() {
  if (metricOf(state.metric).still || report.phases.length < 2) return;
  update({ phase: state.phase + 1 < report.phases.length ? state.phase + 1 : ALL });
}

function inIcicle({ key, target }) {
  const here = drawnCells().find((cell) => cell.node === target);
  if (!here) return null;
  return {
    ArrowDown: () => here.module.children.map((child) => cellOf(child.index)).find(Boolean)?.focus(),
    ArrowUp: () => up(here.module),
    ArrowLeft: () => sibling(here, -1),
    ArrowRight: () => sibling(here, 1),
  }[key];
}

function up(module) {
  if (module.parent === null) return;
  if (module.index === state.zoom) update({ zoom: module.parent });
  cellOf(module.parent)?.focus();
}

function sibling(here, step) {
  const row = drawnCells().filter((cell) => cell.row === here.row).sort((a, b) => a.left - b.left);
  row[row.indexOf(here) + step]?.node.focus();
}
