// What was counted and how much, the choices of metric, phase and convention, and the way back from a zoom.

import { choices } from "./choices.js";
import { ALL, ancestry, comparing, isBelow, NOW, report } from "./data.js";
import { byId, element } from "./dom.js";
import { foldAgain, nameOfRun } from "./folding.js";
import { convention, inShort, metricOf, metrics } from "./metrics.js";
import { relative, si } from "./numbers.js";
import { NUMBERS, state, subscribe, update } from "./state.js";
import { exactTotal } from "./totals.js";

export function showHeader() {
  byId("coverage").append(...report.coverage.map(banner));
  subscribe(["phase", "convention"], drawHeadline);
  subscribe(NUMBERS, drawMetrics);
  subscribe(["metric", "phase"], drawPhases);
  subscribe(["convention"], drawConventions);
  subscribe(["zoom", "unfolded", "folds"], drawTrail);
}

// The total in words, as in the other reports.
function drawHeadline() {
  const words = [...(comparing ? [0] : []), NOW].map(amount);
  const phase = report.phases[state.phase];
  byId("headline").textContent = `${report.steps && `${report.steps}: `}${phase ? `${phase}: ` : ""}${words.join(" \u2192 ")}`;
}

function amount(side) {
  const [macs, arith, flops] = ["macs", "arith", "flops"].map((key) => exactTotal(0, key, state.phase, side));
  const under = flops === macs || flops === 2n * macs ? "" : `${inUnit(flops, "FLOP")} under ${convention().name}`;
  if (macs) return `${inUnit(macs, "MAC")} = ${inUnit(2n * macs, "FLOP")} at 2 per MAC${under && ` (${under})`}`;
  const other = under || (arith ? `${si(arith)} other operations` : "");
  return `0 MAC${other && `, ${other}`}`;
}

function inUnit(count, unit) {
  const text = si(count);
  return `${text}${text.includes(" ") ? "" : " "}${unit}`;
}

// Above all other numbers: whose FLOPs these are.
function drawConventions() {
  choices(byId("conventions"), report.conventions.map(({ name, summary, perMac }, place) => ({
    chosen: state.convention === place,
    choose: () => update({ convention: place }),
    attributes: { "data-convention": name, title: `${name}: ${summary}` },
    content: [name, element("small", {}, `${perMac} per MAC`)],
  })));
  const { name, summary } = convention();
  byId("rule").textContent = `FLOPs (${name}) = ${summary}`;
}

function banner({ complete, verdict, side }) {
  return element("p", complete ? {} : { class: "lacking" }, side ? `${side}: ${verdict}` : verdict);
}

function drawMetrics() {
  choices(byId("metrics"), metrics().map(({ key, label, note, meaning }) => ({
    chosen: state.metric === key,
    choose: () => update({ metric: key }),
    attributes: { class: "metric", "data-metric": key, title: meaning() },
    content: [
      element("span", { class: "label" }, label() + (note?.() ?? "")),
      element("span", { class: "value" }, inShort(key, exactTotal(0, key, state.phase))),
      ...(comparing ? [was(key)] : []),
    ],
  })));
}

function was(key) {
  const [before, now] = [0, 1].map((side) => exactTotal(0, key, state.phase, side));
  return element("span", { class: "was" }, `was ${inShort(key, before)}, ${relative(Number(before), Number(now))}`);
}

function drawPhases() {
  const box = byId("phases");
  box.hidden = report.phases.length < 2;
  const { still } = metricOf(state.metric);
  choices(box, ["all phases", ...report.phases].map((name, place) => ({
    chosen: state.phase === place + ALL,
    choose: () => update({ phase: place + ALL }),
    attributes: { disabled: Boolean(still), "data-phase": place ? name : "", title: still ? "Parameters have no phase" : false },
    content: [name],
  })));
}

function drawTrail() {
  const steps = [...ancestry(report.modules[state.zoom])].reverse();
  byId("trail").replaceChildren(...steps.flatMap((module, place) => [
    ...(place ? [element("span", { "aria-hidden": "true" }, "\u203a")] : []),
    element(
      "button",
      {
        type: "button",
        "aria-current": module.index === state.zoom ? "location" : false,
        on: { click: () => update({ zoom: module.index }) },
      },
      place ? module.name : "model",
    ),
  ]), ...(state.folds ? state.unfolded.filter((index) => isBelow(index, state.zoom)).map(refold) : []));
}

function refold(index) {
  const module = report.modules[index];
  const parent = report.modules[module.parent].path;
  const name = `${parent ? `${parent}.` : ""}${nameOfRun(module, module.run)}`;
  return element("button", { type: "button", class: "refold", title: "Show as one again", on: { click: () => foldAgain(index) } }, `\u00d7 ${name}`);
}
