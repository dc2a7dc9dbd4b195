// The counts that the page was written with: modules as a tree, records as columns.

import { byId } from "./dom.js";

export const ROOT = 0;

export const report = unpack(JSON.parse(byId("data").textContent));

export const NOW = report.sides - 1; // side 0 of a comparison is the count before
export const comparing = report.sides === 2;

export function* ancestry(module) {
  for (let at = module; at !== undefined; at = report.modules[at.parent]) yield at;
}

export function isBelow(index, top) {
  for (let at = index; at >= top; at = report.modules[at].parent) {
    if (at === top) return true;
    if (at === ROOT) return false;
  }
  return false;
}

function unpack(packed) {
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
