// What the roofline chart shows: operators or modules below the zoomed one, with their least times on the device.

import { amountOf, floorOf, hasNoPeak } from "./amounts.js";
import { isBelow, NOW, report } from "./data.js";
import { choose, outline } from "./folding.js";
import { device } from "./metrics.js";
import { state } from "./state.js";
import { isSelected, totals } from "./totals.js";

// Returns dots {name, label, type, macs, traffic, seconds, bound, unrated, calls, choose}, the longest first.
export function dots() {
  const found = state.dots === "operators" ? ofOperators() : ofModules();
  return found.filter(({ seconds }) => seconds).sort((a, b) => b.seconds - a.seconds);
}

// Rows of the later count in the phase and below the zoomed module.
export function rows() {
  const inside = report.modules.map(({ index }) => isBelow(index, state.zoom));
  return report.records.module.flatMap((module, row) => (inside[module] && isSelected(row, state.phase, NOW) ? [row] : []));
}

export function ofOperators() {
  const found = new Map();
  for (const row of rows()) {
    const [operator, dtype] = [report.records.operator[row], report.records.dtype[row]];
    const key = `${operator} ${dtype}`;
    if (!found.has(key)) {
      const { name, family } = report.operators[operator];
      found.set(key, { label: name, name: report.dtypes[dtype] ? `${name} in ${report.dtypes[dtype]}` : name, type: family, macs: 0, traffic: 0, seconds: 0, bound: 0, unrated: 0, calls: 0 });
    }
    const dot = found.get(key);
    for (const [part, metric] of [["macs"], ["traffic"], ["seconds", "time"], ["bound"], ["unrated"]]) dot[part] += amountOf(metric ?? part, row);
    dot.calls += report.records.calls[row];
  }
  return [...found.values()];
}

function ofModules() {
  const [macs, traffic, time, bound, unrated] = ["macs", "traffic", "time", "bound", "unrated"].map((key) => totals(key, state.phase).total);
  return outline(report.modules[state.zoom]).map((line) => {
    const { module, modules: { length }, run } = line;
    const of = (sums) => length * sums[module.index];
    const name = (line.path || "model") + (run > 1 ? ` x${run}` : "");
    return {
      name,
      label: name,
      type: module.type,
      macs: of(macs),
      traffic: of(traffic),
      seconds: of(time),
      bound: of(bound),
      unrated: of(unrated),
      calls: length * module.calls[NOW],
      choose: () => choose(line),
    };
  });
}

// Returns roofs {dtypes, peak, ridge} of the dtypes that multiply, the highest first.
export function roofs() {
  const { bandwidth, peaks } = device();
  const found = new Map();
  for (const row of rows()) {
    const dtype = report.records.dtype[row];
    if (!Number(report.records.macs[row]) || hasNoPeak(row)) continue;
    if (!found.has(peaks[dtype])) found.set(peaks[dtype], new Set());
    found.get(peaks[dtype]).add(report.dtypes[dtype]);
  }
  return [...found].sort(([a], [b]) => b - a).map(([peak, dtypes]) => ({ dtypes: [...dtypes], peak, ridge: peak / bandwidth }));
}

// Returns {compute, seconds} of all that ran in a phase.
export function phaseFloor(phase) {
  return report.records.module.reduce((sum, _, row) => {
    if (!isSelected(row, phase, NOW)) return sum;
    const { compute, seconds } = floorOf(row);
    return { compute: sum.compute + compute, seconds: sum.seconds + seconds };
  }, { compute: 0, seconds: 0 });
}

// Seconds of the whole below which no fusion goes: all arithmetic, or parameters, inputs and outputs moved once.
export function speedOfLight() {
  let [compute, moved] = [0, 0];
  for (const row of rows()) {
    compute += floorOf(row).compute;
    moved += Number(report.records.traffic[row]);
  }
  return Math.max(compute, Math.min(report.least[NOW], moved) / device().bandwidth);
}
