// All that is known of the module under the pointer, or of the zoomed one.

import { amountOf, isShown } from "./amounts.js";
import { comparing, NOW, report } from "./data.js";
import { byId, element } from "./dom.js";
import { lineOf } from "./folding.js";
import { formatted } from "./markup.js";
import { inFull, inShort, labelOf, metrics, ofOperators } from "./metrics.js";
import { percent, plural, relative } from "./numbers.js";
import { NUMBERS, state, subscribe } from "./state.js";
import { exactTotal, isSelected, totals } from "./totals.js";

export function showDetails() {
  subscribe([...NUMBERS, "pointed", "zoom"], draw);
}

function draw() {
  const line = state.pointed ?? lineOf(report.modules[state.zoom]);
  byId("details").replaceChildren(
    element("h2", {}, (line.path || "model") + (line.run > 1 ? ` x${line.run}` : "")),
    element("p", { class: "kind" }, kind(line)),
    ...notes(line.module).map((note) => element("p", { class: "note" }, note)),
    comparing ? changes(line) : numbers(line),
    ...operators(line),
  );
}

function kind({ module, modules: { length } }) {
  const calls = module.calls[NOW];
  const called = module.type ? ` called ${calls === 1 ? "once" : plural(calls, "time")}` : "";
  if (length > 1) return `${module.type}, ${length} equal modules,${called} each; numbers are those of all`;
  return `${module.type || "outside of modules"}${module.type ? "," : ""}${called}`;
}

function notes(module) {
  const found = [];
  if (module.gone) found.push("gone in the later count");
  if (module.isNew) found.push("new in the later count");
  if (module.before !== undefined && !module.gone) found.push(`was ${module.before || "model"}`);
  if (module.aliases) found.push(`also ${module.aliases.join(", ")}`);
  return found;
}

function numbers({ module, modules: { length } }) {
  return table(["", "total", "share"], metrics().map(({ key }) => {
    const { total } = totals(key, state.phase);
    return [labelOf(key), inFull(key, times(exactTotal(module.index, key, state.phase), length)), percent(length * total[module.index], total[0])];
  }));
}

function changes({ module, modules: { length } }) {
  return table(["", "before", "now", "change"], metrics().map(({ key }) => {
    const [before, now] = [0, 1].map((side) => times(exactTotal(module.index, key, state.phase, side), length));
    return [labelOf(key), inShort(key, before), inShort(key, now), relative(Number(before), Number(now))];
  }));
}

function times(count, copies) {
  return typeof count === "bigint" ? count * BigInt(copies) : count * copies;
}

function table(headers, rows) {
  const cells = (tag, row) => row.map((text, place) => element(place ? tag : "th", { class: place ? false : "word" }, text));
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...cells("th", headers))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells("td", row)))),
  );
}

function operators({ module, modules: { length } }) {
  const key = ofOperators(state.metric);
  const entries = grouped(module, key);
  if (!entries.length) return [];
  entries.sort((a, b) => Math.max(...b.numbers) - Math.max(...a.numbers));
  const own = [0, 1].map((side) => entries.reduce((sum, { numbers }) => sum + numbers[side], 0));
  const title = `Own operators${length > 1 ? " of each" : ""}: ${both(own, (count) => inShort(key, count))} ${labelOf(key)}`;
  return [element("h3", {}, title), element("ul", {}, ...entries.map((found) => entry(key, found)))];
}

// Both sides of a comparison in one entry; operators without the metric are left out.
function grouped(module, key) {
  const { records } = report;
  const found = new Map();
  for (const row of module.records) {
    const side = records.side[row];
    if (!isSelected(row, state.phase, side) || !isShown(row, key)) continue;
    const place = [records.operator[row], records.phase[row], records.dtype[row]].join();
    if (!found.has(place)) found.set(place, { row, numbers: [0, 0], calls: [0, 0], shapes: new Set() });
    const group = found.get(place);
    group.numbers[side] += amountOf(key, row);
    group.calls[side] += records.calls[row];
    group.shapes.add(report.shapes[records.shapes[row]]);
  }
  return [...found.values()];
}

function entry(key, { row, numbers, calls, shapes }) {
  const { records } = report;
  const operator = report.operators[records.operator[row]];
  const isLive = key === "live"; // bytes have no calls, and what they are for in place of a family
  const last = isLive ? operator.family : both(calls, (count) => plural(count, "call"));
  const facts = [report.phases[records.phase[row]], report.dtypes[records.dtype[row]], last];
  const number = operator.family === "uncounted" ? "?" : both(numbers, (count) => inShort(key, count));
  return element(
    "li",
    {},
    element("div", {}, element("span", {}, operator.name), element("span", {}, number)),
    ...[facts.filter(Boolean).join(", "), [...shapes].filter(Boolean).join(" \u2192 ")]
      .filter(Boolean)
      .map((text) => element("p", { class: "fact" }, text)),
    ...(operator.formula && !isLive ? [element("p", { class: "formula" }, ...formatted(operator.formula))] : []),
  );
}

function both(numbers, text) {
  return !comparing || numbers[0] === numbers[1] ? text(numbers[NOW]) : `${text(numbers[0])} \u2192 ${text(numbers[1])}`;
}
