// The counts that the page was written with: modules as a tree, records as columns.

import { byId } from "./dom.js";

export const ROOT = 0;
export const ALL = -1; // phases

const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u034f\u115f\u1160\u2800\u3164\uffa0]/gu;

export const report = unpack(JSON.parse(byId("data").textContent));

export const NOW = report.sides - 1; // side 0 of a comparison is the count before
export const comparing = report.sides === 2;

export function* ancestry(module) {
  for (let at = module; at !== undefined; at = report.modules[at.parent]) yield at;
}

// Modules that neither compute, nor move data, nor have parameters are drawn nowhere; a search finds them.
export function isIdle(module) {
  return Boolean(module.idle);
}

export function isBelow(index, top) {
  for (let at = index; at >= top; at = report.modules[at].parent) {
    if (at === top) return true;
    if (at === ROOT) return false;
  }
  return false;
}

function unpack({ records, ...words }) {
  const packed = { ...visible(words), records };
  const modules = packed.modules.map((row, index) => ({ ...row, index, children: [], records: [], level: 0, path: "" }));
  for (const module of modules.slice(1)) {
    const parent = modules[module.parent];
    parent.children.push(module);
    module.level = parent.level + 1;
    module.path = parent.path ? `${parent.path}.${module.name}` : module.name;
  }
  packed.records.module.forEach((module, row) => modules[module].records.push(row));
  return { ...packed, modules };
}

// Names with escapes for what does not show: a module may be called anything.
function visible(value) {
  if (typeof value === "string") return value.replace(HIDDEN, escaped);
  if (Array.isArray(value)) return value.map(visible);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, visible(inner)]));
}

function escaped(character) {
  return `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`;
}
