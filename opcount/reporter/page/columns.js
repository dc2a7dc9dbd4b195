// Of the module table: what stands in them, and what they sort by.

import { comparing, NOW, report } from "./data.js";
import { METRICS, metricOf } from "./metrics.js";
import { relative, si, signed } from "./numbers.js";
import { state } from "./state.js";
import { totals } from "./totals.js";

// Returns columns {key, group, header, value(index), text(index)}.
export function columns() {
  return comparing ? ofChange() : [callsColumn(), ...METRICS.flatMap(ofMetric)];
}

function callsColumn() {
  const value = (index) => report.modules[index].calls[NOW];
  return { key: "calls", group: "", header: "calls", value, text: (index) => (report.modules[index].type ? String(value(index)) : "") };
}

function ofMetric({ key, label }) {
  const sums = totals(key, state.phase);
  return ["total", "own"].map((part) => {
    const value = (index) => sums[part][index];
    return { key: `${key} ${part}`, group: label, header: part, value, text: (index) => si(value(index)), bar: part === "total" && key === state.metric };
  });
}

function ofChange() {
  const { label } = metricOf(state.metric);
  const [before, now] = [0, 1].map((side) => totals(state.metric, state.phase, side));
  return ["total", "own"].flatMap((part) => {
    const was = (i) => before[part][i];
    const is = (i) => now[part][i];
    const change = (i) => is(i) - was(i);
    const group = `${label}, ${part}`;
    const direction = (i) => (change(i) > 0 ? "up" : change(i) < 0 ? "down" : "");
    return [
      { key: `${part} before`, group, header: "before", value: was, text: (i) => si(was(i)) },
      { key: `${part} now`, group, header: "now", value: is, text: (i) => si(is(i)) },
      { key: `${part} change`, group, header: "change", value: change, text: (i) => signed(change(i)), style: direction },
      { key: `${part} percent`, group, header: "%", value: (i) => ratio(was(i), is(i)), text: (i) => relative(was(i), is(i)), style: direction },
    ];
  });
}

function ratio(before, now) {
  if (before === now) return 0;
  return before ? (now - before) / before : Infinity;
}
