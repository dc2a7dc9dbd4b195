// Modules whose path or type contains the query; with *, ? or [0-3] in it, whose whole path it describes, as for --modules.

import { report } from "./data.js";
import { byId } from "./dom.js";
import { percent, plural } from "./numbers.js";
import { NUMBERS, state, subscribe, update } from "./state.js";
import { totals } from "./totals.js";

let matches = null; // null: nothing is searched for
let within = null; // whether a module or any below it matches

export function isMatch(index) {
  return matches === null || matches[index];
}

export function hasMatch(index) {
  return within === null || within[index];
}

export function isSearching() {
  return matches !== null;
}

export function followQuery() {
  const input = byId("query");
  input.addEventListener("input", () => update({ query: input.value }));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") update({ query: "" });
  });
  subscribe(["query"], () => {
    if (input.value !== state.query) input.value = state.query;
    matches = match(state.query.trim());
    within = matches && spread(matches);
  });
  subscribe([...NUMBERS, "query"], showFound);
}

function match(query) {
  if (!query) return null;
  const fits = /[*?]|\[.+\]/.test(query) ? glob(query) : contains(query.toLowerCase());
  return report.modules.map(fits);
}

function spread(found) {
  const all = [...found];
  for (let i = all.length - 1; i > 0; i -= 1) if (all[i]) all[report.modules[i].parent] = true;
  return all;
}

function contains(words) {
  return (module) => `${module.path}\n${module.type}`.toLowerCase().includes(words);
}

const WILD = new Map([["**.", "(?:.*\\.)?"], ["**", ".*"], ["*", "[^.]*"], ["?", "[^.]"]]);

function glob(pattern) {
  const tokens = pattern.split(/(\*\*\.?|\*|\?|\[!?\]?[^\]]*\])/).map((token) => WILD.get(token) ?? oneOf(token) ?? literal(token));
  try {
    const expression = new RegExp(`^${tokens.join("")}$`, "is");
    return (module) => expression.test(module.path);
  } catch {
    return () => false; // a range such as [3-1] holds nothing
  }
}

function oneOf(token) {
  const [, not, characters] = token.match(/^\[(!?)(.+)\]$/s) ?? [];
  return characters && `(?!\\.)[${not ? "^" : ""}${characters.replace(/[\]\\^[]/g, "\\$&")}]`;
}

function literal(text) {
  return text.replace(/[.+^${}()|[\]\\]/g, "\\$&");
}

function showFound() {
  const output = byId("found");
  output.textContent = "";
  if (matches === null) return;
  const { total } = totals(state.metric, state.phase);
  const top = report.modules.filter((module) => matches[module.index] && !hasMatchAbove(module));
  const sum = top.reduce((all, module) => all + total[module.index], 0);
  output.textContent = `${plural(matches.filter(Boolean).length, "module")}, ${percent(sum, total[0])}`;
}

function hasMatchAbove(module) {
  for (let at = module.parent; at !== null; at = report.modules[at].parent) if (matches[at]) return true;
  return false;
}
