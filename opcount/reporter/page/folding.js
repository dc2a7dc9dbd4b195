// Lines of an outline: a module, or equal ones with consecutive numbers as one, until it is opened.

import { isIdle, report } from "./data.js";
import { state, update } from "./state.js";

// Returns a line: {modules, name, path, level, run, folded}. Its modules are equal; run: how many it names itself;
// folded: the first module of the outermost run that hides it among others, or null.
export function lineOf(module) {
  return { module, modules: [module], name: module.name || "model", path: module.path, level: 0, run: 1, folded: null };
}

export function childrenOf(line) {
  const rows = line.modules.map(({ children }) => children.filter((child) => !isIdle(child)));
  const lines = [];
  for (let at = 0; at < rows[0].length; at += lines.at(-1).run) lines.push(child(line, rows, at));
  return lines;
}

// All lines at and below a module, parents first.
export function outline(module) {
  const lines = [];
  const pending = [lineOf(module)];
  while (pending.length) {
    const line = pending.pop();
    lines.push(line);
    pending.push(...childrenOf(line).reverse());
  }
  return lines;
}

export function runLength(module) {
  return state.folds && !state.unfolded.includes(module.index) ? module.run ?? 1 : 1;
}

// What a click on a line does: equal modules are shown one by one, one module is zoomed into.
export function choose(line) {
  if (line.folded !== null) update({ unfolded: [...state.unfolded, line.folded], pointed: null });
  else update({ zoom: line.module.index, pointed: null });
}

export function foldAgain(index) {
  update({ unfolded: state.unfolded.filter((each) => each !== index), pointed: null });
}

// Returns "0-31 x32" for the first of a run.
export function nameOfRun(first, run) {
  const children = report.modules[first.parent].children.filter((child) => !isIdle(child));
  return `${first.name}-${children[children.indexOf(first) + run - 1].name}`;
}

function child(line, rows, at) {
  const module = rows[0][at];
  const run = runLength(module);
  const base = line.path ? `${line.path}.` : "";
  const name = run > 1 ? `${module.name}-${rows[0][at + run - 1].name}` : module.name;
  return {
    module,
    modules: rows.flatMap((row) => row.slice(at, at + run)),
    name: run > 1 ? `${name} x${run}` : name,
    path: `${base}${name}`,
    level: line.level + 1,
    run,
    folded: line.folded ?? (run > 1 ? module.index : null),
  };
}
