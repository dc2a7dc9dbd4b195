// The modules below the zoomed one, own and total; sorted by any column, else in the order of the model.

import { columns } from "./columns.js";
import { ALL, comparing, isBelow, NOW, report } from "./data.js";
import { byId, element } from "./dom.js";
import { choose, lineOf, outline } from "./folding.js";
import { metrics } from "./metrics.js";
import { isMatch, isSearching } from "./search.js";
import { NUMBERS, state, subscribe, update } from "./state.js";
import { sizes, totals } from "./totals.js";

const PAGE = 200;
const NAME = { key: "path", group: "", header: "module", word: true, value: (line) => line.path };
const TYPE = { key: "type", group: "", header: "type", word: true, value: (line) => line.module.type };

export function showTable() {
  byId("more").addEventListener("click", () => update({ shown: Infinity }));
  byId("folds").hidden = !report.modules.some(({ run }) => run);
  byId("folds").addEventListener("change", (event) => update({ folds: event.target.checked, unfolded: [] }));
  byId("only-changed").hidden = !comparing;
  byId("only-changed").addEventListener("change", (event) => update({ onlyChanged: event.target.checked }));
  subscribe([...NUMBERS, "zoom", "query", "sort", "shown", "onlyChanged", "unfolded", "folds"], (changed) => {
    if (state.shown !== PAGE && changed.some((key) => key === "zoom" || key === "query")) state.shown = PAGE;
    draw();
  });
}

function draw() {
  const shown = [NAME, TYPE, ...columns()];
  const all = sorted(chosen(), shown);
  const page = all.slice(0, state.shown);
  byId("module-table").replaceChildren(head(shown), element("tbody", {}, ...page.map((line) => row(line, shown))));
  byId("more").hidden = page.length === all.length;
  byId("more").textContent = `Show all ${all.length.toLocaleString("en-US")}`;
}

// What the table shows, in its order, to its end.
export function lines() {
  return sorted(chosen(), [NAME, TYPE, ...columns()]);
}

// A search lists what it finds one by one; else equal modules share a line, and those without a number have none.
function chosen() {
  const found = isSearching()
    ? report.modules.filter(({ index }) => isBelow(index, state.zoom) && isMatch(index)).map(lineOf)
    : outline(report.modules[state.zoom]).filter(({ module, level }) => !level || hasNumber(module));
  return comparing && state.onlyChanged ? found.filter(({ module }) => isChanged(module)) : found;
}

// A comparison has columns of one metric alone.
function hasNumber({ index }) {
  const shown = comparing ? [state.metric] : keys();
  return shown.some((key) => !(key === "params" && state.phase !== ALL) && sizes(key, state.phase)[index]);
}

function isChanged(module) {
  return module.gone || module.isNew || keys().some((key) => {
    const [before, now] = [0, 1].map((side) => totals(key, state.phase, side).total[module.index]);
    return before !== now;
  });
}

function keys() {
  return ["arith", ...metrics().map(({ key }) => key)];
}

function sorted(found, shown) {
  if (!state.sort) return found;
  const { key, descending } = state.sort;
  const column = shown.find((each) => each.key === key);
  if (!column) return found;
  const order = column.word
    ? (a, b) => compareWords(column.value(a), column.value(b))
    : (a, b) => subtract(column.value(a), column.value(b));
  return found.sort((a, b) => (descending ? order(b, a) : order(a, b)));
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
  const groups = shown.reduce((all, { group, groupMeaning }) => {
    if (all.length && all.at(-1).group === group) all.at(-1).span += 1;
    else all.push({ group, groupMeaning, span: 1 });
    return all;
  }, []);
  return element(
    "thead",
    {},
    element("tr", {}, ...groups.map(({ group, groupMeaning, span }) => element("th", { colspan: span, class: group ? "group" : false, title: groupMeaning }, group))),
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
    { scope: "col", class: [column.word && "word", first && "first"].filter(Boolean).join(" "), "aria-sort": direction, "data-column": column.key, title: column.meaning },
    element("button", { type: "button", on: { click: () => update({ sort: sortBy(column) }) } }, column.header),
  );
}

function row(line, shown) {
  const { module, modules: { length } } = line;
  const called = !module.type || module.calls[NOW] || totals("flops", state.phase).total[module.index];
  return element(
    "tr",
    { class: module.gone ? "gone" : called ? false : "uncalled", "data-path": line.path, "data-copies": length > 1 && length },
    name(line),
    element("td", { class: "word" }, module.type),
    ...shown.slice(2).map((column, place) => number(line, column, starts(shown, place + 2))),
  );
}

function name(line) {
  const flat = state.sort || isSearching() || (comparing && state.onlyChanged);
  const indent = flat ? 0 : line.level;
  const path = line.run > 1 ? `${line.path} x${line.run}` : line.path;
  return element(
    "th",
    { scope: "row", class: "word", style: { "--level": indent }, title: path },
    element("button", { type: "button", on: { click: () => choose(line) } }, (flat ? path : line.name) || "model"),
  );
}

function number(line, column, first) {
  const classes = [first && "first", column.share && "share", !column.value(line) && "zero", column.style?.(line)].filter(Boolean).join(" ");
  const cell = element("td", { class: classes }, column.text(line));
  if (column.share) cell.append(element("i", { style: { width: `${100 * Math.min(1, column.share(line))}%` } }));
  return cell;
}
