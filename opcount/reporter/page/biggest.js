// The ten modules that themselves have most of the metric, within the zoomed one; equal ones are one.

import { colorOf } from "./colors.js";
import { comparing, NOW, report } from "./data.js";
import { byId, element } from "./dom.js";
import { choose, outline } from "./folding.js";
import { inShort, labelOf } from "./metrics.js";
import { percent, relative } from "./numbers.js";
import { NUMBERS, state, subscribe } from "./state.js";
import { sizes, totals } from "./totals.js";

const SHOWN = 10;

export function showBiggest() {
  subscribe([...NUMBERS, "zoom", "unfolded", "folds"], draw);
}

function draw() {
  const sides = [0, NOW].map((side) => totals(state.metric, state.phase, side));
  const found = outline(report.modules[state.zoom])
    .map((line) => ({ line, numbers: sides.map(({ own }) => line.modules.length * own[line.module.index]) }))
    .filter(({ numbers }) => numbers.some(Boolean))
    .sort((a, b) => Math.max(...b.numbers) - Math.max(...a.numbers))
    .slice(0, SHOWN);
  const whole = sizes(state.metric, state.phase)[state.zoom];
  byId("biggest").hidden = !found.length;
  byId("biggest-title").textContent = `Biggest by own ${labelOf(state.metric)}`;
  byId("biggest-list").replaceChildren(...found.map((each) => entry(each, whole)));
}

function entry({ line, numbers: [before, now] }, whole) {
  const path = (line.path || "model") + (line.run > 1 ? ` x${line.run}` : "");
  const share = Math.max(before, now) / whole;
  return element(
    "li",
    { "data-path": line.path },
    element("button", { type: "button", on: { click: () => choose(line) } }, path),
    element("span", { class: "family" }, line.module.type),
    element("span", { class: "number" }, `${inShort(state.metric, now)}, ${comparing ? relative(before, now) : percent(now, whole)}`),
    element("i", { style: { width: `${100 * share}%`, background: colorOf(line.module, state.metric, state.phase) } }),
  );
}
