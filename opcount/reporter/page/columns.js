// Of the module table: what stands in them, and what they sort by.

import { comparing, NOW } from "./data.js";
import { fullLabelOf, inShort, labelOf, metrics, OTHER_MEANINGS } from "./metrics.js";
import { relative } from "./numbers.js";
import { state } from "./state.js";
import { exactTotal, totals } from "./totals.js";

const MEANINGS = new Map(OTHER_MEANINGS);

// Returns columns {key, group, header, inFile, meaning, value(line), exact(line), text(line)}; those that hold nothing but zeros, and FLOPs
// that are the MACs, are left out, unless they are the metric.
export function columns() {
  return comparing ? ofChange() : [callsColumn(), ...metrics().filter(saysSomething).flatMap(ofMetric)];
}

function saysSomething({ key }) {
  if (key === state.metric) return true;
  const { total } = totals(key, state.phase);
  return key === "flops" ? totals("macs", state.phase).total.some((count, i) => count !== total[i]) : total.some(Boolean);
}

function callsColumn() {
  const value = ({ module, modules: { length } }) => length * module.calls[NOW];
  return { key: "calls", group: "", header: "calls", inFile: "calls", meaning: MEANINGS.get("calls"), value, text: (line) => (line.module.type ? String(value(line)) : "") };
}

function ofMetric({ key, meaning }) {
  const sums = totals(key, state.phase);
  return ["total", "own"].map((part) => {
    const value = ({ module, modules: { length } }) => length * sums[part][module.index];
    return {
      key: `${key} ${part}`,
      group: labelOf(key),
      inFile: `${fullLabelOf(key)}, ${part}`,
      groupMeaning: meaning(),
      header: part,
      meaning: MEANINGS.get(part),
      value,
      exact: (line) => exactOf(line, key, NOW, part),
      text: (line) => inShort(key, value(line)),
      share: part === "total" && key === state.metric ? (line) => value(line) / (sums.total[0] || 1) : null,
    };
  });
}

function ofChange() {
  const key = state.metric;
  const [before, now] = [0, 1].map((side) => totals(key, state.phase, side));
  return ["total", "own"].flatMap((part) => {
    const of = (sums) => ({ module, modules: { length } }) => length * sums[part][module.index];
    const [was, is] = [before, now].map(of);
    const change = (line) => is(line) - was(line);
    const exactly = (side) => (line) => exactOf(line, key, side, part);
    const about = { group: `${labelOf(key)}, ${part}`, groupMeaning: MEANINGS.get(part) };
    const direction = (line) => (change(line) > 0 ? "up" : change(line) < 0 ? "down" : "");
    return [
      { key: `${part} before`, header: "before", value: was, exact: exactly(0), text: (line) => inShort(key, was(line)) },
      { key: `${part} now`, header: "now", value: is, exact: exactly(1), text: (line) => inShort(key, is(line)) },
      { key: `${part} change`, header: "change", value: change, exact: (line) => exactly(1)(line) - exactly(0)(line), text: (line) => signed(key, change(line)), style: direction },
      { key: `${part} percent`, header: "%", value: (line) => ratio(was(line), is(line)), text: (line) => relative(was(line), is(line)), style: direction },
    ].map((column) => ({ ...about, ...column, inFile: `${fullLabelOf(key)}, ${part}, ${column.header}` }));
  });
}

function exactOf({ module, modules: { length } }, key, side, part) {
  const count = exactTotal(module.index, key, state.phase, side, part);
  return typeof count === "bigint" ? BigInt(length) * count : length * count;
}

function signed(key, count) {
  return count > 0 ? `+${inShort(key, count)}` : inShort(key, count);
}

function ratio(before, now) {
  if (before === now) return 0;
  return before ? (now - before) / before : Infinity;
}
