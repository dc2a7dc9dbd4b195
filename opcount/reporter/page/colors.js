// Of cells: by type, or in a comparison by change.

import { ALL, report, comparing } from "./data.js";
import { totals } from "./totals.js";

const PALETTE = 8;
const FULL_CHANGE = 0.5;

// The types that do most of the work themselves, in the order of their share; the others have one colour together.
export const types = rankedTypes();

export function colorOf(module, metric, phase) {
  return comparing ? ofChange(module.index, metric, phase) : ofType(module.type);
}

export function ofType(type) {
  const place = types.findIndex((row) => row.type === type);
  if (place < 0) return "var(--container)";
  return place < PALETTE ? `var(--type-${place})` : "var(--other)";
}

export const listedTypes = types.slice(0, PALETTE);
export const hasOtherTypes = types.length > PALETTE;

function ofChange(index, metric, phase) {
  const before = totals(metric, phase, 0).total[index];
  const now = totals(metric, phase, 1).total[index];
  if (before === now) return "var(--same)";
  const change = before ? (now - before) / before : Infinity;
  const strength = Math.round(20 + 80 * Math.min(1, Math.abs(change) / FULL_CHANGE));
  return `color-mix(in oklab, var(${change > 0 ? "--grow" : "--shrink"}) ${strength}%, var(--same))`;
}

function rankedTypes() {
  const flops = totals("flops", ALL).own;
  const params = totals("params", ALL).own;
  const work = new Map();
  for (const module of report.modules) {
    if (!flops[module.index] && (module.children.length || !params[module.index])) continue;
    const row = work.get(module.type) ?? { type: module.type, flops: 0, params: 0 };
    row.flops += flops[module.index];
    row.params += params[module.index];
    work.set(module.type, row);
  }
  return [...work.values()].sort((a, b) => b.flops - a.flops || b.params - a.params);
}
