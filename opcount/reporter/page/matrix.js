// What each operator costs in each dtype, within the zoomed module.

import { amountOf, isShown } from "./amounts.js";
import { comparing, isBelow, NOW, report } from "./data.js";
import { byId, element } from "./dom.js";
import { plainText } from "./markup.js";
import { inShort, labelOf, ofOperators } from "./metrics.js";
import { percent, relative } from "./numbers.js";
import { NUMBERS, state, subscribe } from "./state.js";
import { isSelected } from "./totals.js";

export function showMatrix() {
  subscribe([...NUMBERS, "zoom"], draw);
}

function draw() {
  const key = ofOperators(state.metric);
  const { rows, dtypes } = gather(key);
  const whole = rows.reduce((all, row) => all + row.sum[NOW], 0);
  byId("operators-title").textContent = `Operators by dtype, ${labelOf(key)}`;
  byId("operator-table").replaceChildren(
    element("thead", {}, element("tr", {}, ...headers(dtypes))),
    element("tbody", {}, ...rows.map((row) => line(key, row, dtypes, whole))),
  );
}

function gather(key) {
  const { records, operators } = report;
  const found = new Map();
  const dtypes = new Set();
  const inside = report.modules.map(({ index }) => isBelow(index, state.zoom));
  records.module.forEach((module, at) => {
    const side = records.side[at];
    if (!inside[module] || !isSelected(at, state.phase, side) || !isShown(at, key)) return;
    const index = records.operator[at];
    if (!found.has(index)) found.set(index, { ...operators[index], cells: new Map(), sum: [0, 0], calls: [0, 0] });
    const row = found.get(index);
    const dtype = records.dtype[at];
    dtypes.add(dtype);
    if (!row.cells.has(dtype)) row.cells.set(dtype, [0, 0]);
    row.cells.get(dtype)[side] += amountOf(key, at);
    row.sum[side] += amountOf(key, at);
    row.calls[side] += records.calls[at];
  });
  const rank = (row) => (row.family === "uncounted" ? Infinity : Math.max(...row.sum));
  const rows = [...found.values()].sort((a, b) => (rank(a) === rank(b) ? a.name.localeCompare(b.name) : rank(b) - rank(a)));
  return { rows, dtypes: [...dtypes].sort((a, b) => a - b) };
}

function headers(dtypes) {
  const names = ["calls", ...dtypes.map((dtype) => report.dtypes[dtype] || "none"), "all", comparing ? "change" : "share"];
  return [element("th", { class: "word" }, "operator"), ...names.map((text) => element("th", { scope: "col" }, text))];
}

function line(key, row, dtypes, whole) {
  const known = row.family !== "uncounted";
  const last = comparing ? relative(...row.sum) : percent(row.sum[NOW], whole);
  return element(
    "tr",
    { "data-operator": row.name },
    element("th", { class: "word", scope: "row", title: row.formula ? plainText(row.formula) : false }, row.name, element("span", { class: "family" }, row.family)),
    element("td", {}, calls(row)),
    ...dtypes.map((dtype) => (known ? cell(key, row.cells.get(dtype), whole) : unknown(row.cells.has(dtype)))),
    known ? element("td", {}, inShort(key, row.sum[NOW])) : unknown(true),
    element("td", comparing ? { class: direction(row.sum) } : {}, known ? last : "-"),
  );
}

function calls({ calls: [before, now] }) {
  if (!before && !now) return ""; // of live bytes
  if (!comparing) return before.toLocaleString("en-US");
  return before === now ? now.toLocaleString("en-US") : `${before.toLocaleString("en-US")} \u2192 ${now.toLocaleString("en-US")}`;
}

function cell(key, numbers, whole) {
  if (!numbers) return element("td");
  const share = whole ? (100 * numbers[NOW]) / whole : 0;
  const text = comparing && numbers[0] !== numbers[1] ? `${inShort(key, numbers[0])} \u2192 ${inShort(key, numbers[1])}` : inShort(key, numbers[NOW]);
  return element("td", { class: "heat", style: { "--share": `${Math.min(100, share)}%` } }, text);
}

function unknown(isThere) {
  return element("td", { class: "unknown", title: isThere ? "no formula: the totals are a lower bound" : false }, isThere ? "?" : "");
}

function direction([before, now]) {
  return now > before ? "up" : now < before ? "down" : "";
}
