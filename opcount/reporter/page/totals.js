// Own and total numbers of every module, for a metric, a phase (ALL: every one) and a side of a comparison.
//
// Numbers are doubles, which hold counts up to 2^53 exactly; beyond that, exactTotal() adds whole numbers.

import { amountOf, exactAmountOf } from "./amounts.js";
import { ALL, report, NOW, ROOT } from "./data.js";
import { metricOf } from "./metrics.js";
import { state } from "./state.js";

const known = new Map();

export function totals(metric, phase, side = NOW) {
  if (metricOf(metric)?.still) phase = ALL;
  const key = `${metric}${readingOf(metric)} ${phase} ${side}`;
  if (!known.has(key)) known.set(key, metric === "params" ? ofParameters(side) : ofRecords(metric, phase, side));
  return known.get(key);
}

// Sizes of cells: of what a module itself does the larger of both sides, so that what is gone has a place, too.
export function sizes(metric, phase) {
  if (metricOf(metric)?.still) phase = ALL;
  const key = `${metric}${readingOf(metric)} ${phase} sizes`;
  if (!known.has(key)) {
    const size = new Float64Array(report.modules.length);
    for (let side = 0; side < report.sides; side += 1) {
      totals(metric, phase, side).own.forEach((own, i) => { size[i] = Math.max(size[i], own); });
    }
    addToParents(size);
    known.set(key, size);
  }
  return known.get(key);
}

export function exactTotal(index, metric, phase, side = NOW, part = "total") {
  const number = totals(metric, phase, side)[part][index];
  if (metric === "time") return number;
  if (number <= Number.MAX_SAFE_INTEGER) return BigInt(number);
  if (metric === "params") return BigInt(part === "total" ? report.modules[index].params[side] : number);
  let sum = 0n;
  const pending = [report.modules[index]];
  while (pending.length) {
    const module = pending.pop();
    for (const row of module.records) if (isSelected(row, phase, side)) sum += exactAmountOf(metric, row);
    if (part === "total") pending.push(...module.children);
  }
  return sum;
}

export function isSelected(row, phase, side) {
  const { records } = report;
  return records.side[row] === side && (phase === ALL || records.phase[row] === phase);
}

// What a metric depends on besides the count.
function readingOf(metric) {
  if (metric === "flops") return ` ${state.convention}`;
  return ["time", "bound", "unrated"].includes(metric) ? ` ${state.device}` : "";
}

function ofRecords(metric, phase, side) {
  const own = new Float64Array(report.modules.length);
  report.records.module.forEach((module, row) => {
    if (isSelected(row, phase, side)) own[module] += amountOf(metric, row);
  });
  return { own, total: addToParents(Float64Array.from(own)) };
}

// A shared parameter may be counted by two children, and once by their parent: the parent's own is never negative.
function ofParameters(side) {
  const total = Float64Array.from(report.modules, (module) => Number(module.params[side]));
  const own = Float64Array.from(total);
  for (const module of report.modules.slice(1)) own[module.parent] -= total[module.index];
  return { own: own.map((count) => Math.max(0, count)), total };
}

function addToParents(numbers) {
  for (let i = numbers.length - 1; i > ROOT; i -= 1) numbers[report.modules[i].parent] += numbers[i];
  return numbers;
}
