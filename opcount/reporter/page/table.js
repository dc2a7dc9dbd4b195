// The modules below the zoomed one, own and total; sorted by any column, else in the order of the model.

import { columns } from "./columns.js";
import { comparing, isBelow, NOW, report } from "./data.js";
import { byId, element } from "./dom.js";
import { isMatch, isSearching } from "./search.js";
import { state, subscribe, update } from "./state.js";
import { totals } from "./totals.js";
import { METRICS } from "./metrics.js";

const PAGE = 200;
const NAME = { key: "path", group: "", header: "module", word: true };
const TYPE = { key: "type", group: "", header: "type", word: true };

export function showTable() {
  byId("more").addEventListener("click", () => update({ shown: Infinity }));
  byId("only-changed").hidden = !comparing;
  byId("only-changed").addEventListener("change", (event) => update({ onlyChanged: event.target.checked }));
  subscribe(["metric", "phase", "zoom", "query", "sort", "shown", "onlyChanged"], (changed) => {
    if (state.shown !== PAGE && changed.some((key) => key === "zoom" || key === "query")) state.shown = PAGE;
    draw();
  });
}

function draw() {
  const shown = [NAME, TYPE, ...columns()];
  const modules = sorted(chosen(), shown);
  const page = modules.slice(0, state.shown);
  byId("module-table").replaceChildren(head(shown), element("tbody", {}, ...page.map((module) => row(module, shown))));
  byId("more").hidden = page.length === modules.length;
  byId("more").textContent = `Show all ${modules.length.toLocaleString("en-US")}`;
}

function chosen() {
  return report.modules.filter(({ index }) => (
    isBelow(index, state.zoom) && isMatch(index) && (!comparing || !state.onlyChanged || isChanged(index))
  ));
}

function isChanged(index) {
  const module = report.modules[index];
  return module.gone || module.isNew || METRICS.some(({ key }) => {
    const [before, now] = [0, 1].map((side) => totals(key, state.phase, side).total[index]);
    return before !== now;
  });
}

function sorted(modules, shown) {
  if (!state.sort) return modules;
  const { key, descending } = state.sort;
  const column = shown.find((each) => each.key === key);
  if (!column) return modules;
  const order = column.word
    ? (a, b) => compareWords(a[key], b[key])
    : (a, b) => subtract(column.value(a.index), column.value(b.index));
  return modules.sort((a, b) => (descending ? order(b, a) : order(a, b)));
}

function compareWords(a, b) {
  return a.localeCompare(b, "en", { numeric: true });
}

function subtract(a, b) {
  return a === b ? 0 : a - b; // two infinities are equal
}

// A first click sorts words from A, numbers from the largest; a second turns the order round, a third gives it up.
function sortBy({ key, word }) {
  const first = !word;
  if (state.sort?.key !== key) return { key, descending: first };
  return state.sort.descending === first ? { key, descending: !first } : null;
}

function head(shown) {
  const groups = shown.reduce((all, { group }) => {
    if (all.length && all.at(-1).group === group) all.at(-1).span += 1;
    else all.push({ group, span: 1 });
    return all;
  }, []);
  return element(
    "thead",
    {},
    element("tr", {}, ...groups.map(({ group, span }) => element("th", { colspan: span, class: group ? "group" : false }, group))),
    element("tr", {}, ...shown.map((column, place) => header(column, starts(shown, place)))),
  );
}

function starts(shown, place) {
  return Boolean(shown[place].group) && shown[place - 1].group !== shown[place].group;
}

function header(column, first) {
  const direction = state.sort?.key === column.key ? (state.sort.descending ? "descending" : "ascending") : false;
  return element(
    "th",
    { scope: "col", class: [column.word && "word", first && "first"].filter(Boolean).join(" "), "aria-sort": direction, "data-column": column.key },
    element("button", { type: "button", on: { click: () => update({ sort: sortBy(column) }) } }, column.header),
  );
}

function row(module, shown) {
  const called = !module.type || module.calls[NOW] || totals("flops", state.phase).total[module.index];
  return element(
    "tr",
    { class: module.gone ? "gone" : called ? false : "uncalled", "data-path": module.path },
    name(module),
    element("td", { class: "word" }, module.type),
    ...shown.slice(2).map((column, place) => number(module, column, starts(shown, place + 2))),
  );
}

function name(module) {
  const flat = state.sort || isSearching() || (comparing && state.onlyChanged);
  const indent = flat ? 0 : module.level - report.modules[state.zoom].level;
  return element(
    "th",
    { scope: "row", class: "word", style: { "padding-left": `${12 + 14 * indent}px` }, title: module.path },
    element(
      "button",
      { type: "button", on: { click: () => update({ zoom: module.index }) } },
      (flat ? module.path : module.name) || "model",
    ),
  );
}

function number(module, column, first) {
  const classes = [first && "first", column.bar && "share", column.style?.(module.index)].filter(Boolean).join(" ");
  const cell = element("td", { class: classes }, column.text(module.index));
  if (column.bar) {
    const share = column.value(module.index) / (column.value(0) || 1);
    cell.append(element("i", { style: { width: `${100 * Math.min(1, share)}%` } }));
  }
  return cell;
}
