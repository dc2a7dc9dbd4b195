// All that is known of the module under the pointer, or of the zoomed one.

import { comparing, NOW, report } from "./data.js";
import { byId, element } from "./dom.js";
import { isShown, METRICS, metricOf } from "./metrics.js";
import { exact, percent, plural, relative, si } from "./numbers.js";
import { state, subscribe } from "./state.js";
import { exactTotal, isSelected, totals } from "./totals.js";

export function showDetails() {
  subscribe(["pointed", "zoom", "metric", "phase"], draw);
}

function draw() {
  const module = report.modules[state.pointed ?? state.zoom];
  byId("details").replaceChildren(
    element("h2", {}, module.path || "model"),
    element("p", { class: "kind" }, kind(module)),
    ...notes(module).map((note) => element("p", { class: "note" }, note)),
    comparing ? changes(module) : numbers(module),
    ...operators(module),
  );
}

function kind(module) {
  const calls = module.calls[NOW];
  const called = module.type ? ` called ${calls === 1 ? "once" : plural(calls, "time")}` : "";
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

function numbers(module) {
  return table(["", "total", "share"], METRICS.map(({ key, label }) => {
    const { total } = totals(key, state.phase);
    return [label, exact(exactTotal(module.index, key, state.phase)), percent(total[module.index], total[0])];
  }));
}

function changes(module) {
  return table(["", "before", "now", "change"], METRICS.map(({ key, label }) => {
    const [before, now] = [0, 1].map((side) => exactTotal(module.index, key, state.phase, side));
    return [label, si(before), si(now), relative(Number(before), Number(now))];
  }));
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

function operators(module) {
  const key = metricOf(state.metric).still ? "flops" : state.metric; // operators have no parameters
  const entries = grouped(module, key);
  if (!entries.length) return [];
  entries.sort((a, b) => Math.max(...b.numbers) - Math.max(...a.numbers));
  const own = [0, 1].map((side) => entries.reduce((sum, { numbers }) => sum + numbers[side], 0));
  const title = `Its own operators: ${both(own, si)} ${metricOf(key).label}`;
  return [element("h3", {}, title), element("ul", {}, ...entries.map(entry))];
}

// Both sides of a comparison in one entry.
function grouped(module, key) {
  const { records } = report;
  const found = new Map();
  for (const row of module.records) {
    const side = records.side[row];
    if (!isSelected(row, state.phase, side) || !isShown(row, key)) continue;
    const place = [records.operator[row], records.phase[row], records.dtype[row]].join();
    if (!found.has(place)) found.set(place, { row, numbers: [0, 0], calls: [0, 0], shapes: new Set() });
    const group = found.get(place);
    group.numbers[side] = Number(records[key][row]);
    group.calls[side] = records.calls[row];
    group.shapes.add(report.shapes[records.shapes[row]]);
  }
  return [...found.values()];
}

function entry({ row, numbers, calls, shapes }) {
  const { records } = report;
  const operator = report.operators[records.operator[row]];
  const facts = [report.phases[records.phase[row]], report.dtypes[records.dtype[row]], both(calls, (count) => plural(count, "call"))];
  const number = operator.family === "uncounted" ? "?" : both(numbers, si);
  return element(
    "li",
    {},
    element("div", {}, element("span", {}, operator.name), element("span", {}, number)),
    ...[facts.filter(Boolean).join(", "), [...shapes].filter(Boolean).join(" \u2192 "), operator.formula?.replaceAll("``", "")]
      .filter(Boolean)
      .map((text) => element("code", {}, text)),
  );
}

function both(numbers, text) {
  return !comparing || numbers[0] === numbers[1] ? text(numbers[NOW]) : `${text(numbers[0])} \u2192 ${text(numbers[1])}`;
}
