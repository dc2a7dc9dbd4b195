// The coverage, the totals that switch the metric, the phases, and the way back from a zoom.

import { ancestry, comparing, report } from "./data.js";
import { byId, element } from "./dom.js";
import { METRICS, metricOf } from "./metrics.js";
import { relative, si } from "./numbers.js";
import { state, subscribe, update } from "./state.js";
import { ALL, exactTotal } from "./totals.js";

export function showHeader() {
  byId("subtitle").textContent = report.subtitle;
  byId("coverage").append(...report.coverage.map(banner));
  subscribe(["metric", "phase"], drawMetrics);
  subscribe(["metric", "phase"], drawPhases);
  subscribe(["zoom"], drawTrail);
}

function banner({ complete, verdict, side }) {
  return element("p", complete ? {} : { class: "lacking" }, side ? `${side}: ${verdict}` : verdict);
}

function drawMetrics() {
  choices(byId("metrics"), METRICS.map(({ key, label }) => ({
    chosen: state.metric === key,
    choose: () => update({ metric: key }),
    attributes: { class: "metric", "data-metric": key },
    content: [
      element("span", { class: "label" }, label),
      element("span", { class: "value" }, si(exactTotal(0, key, state.phase))),
      ...(comparing ? [was(key)] : []),
    ],
  })));
}

function was(key) {
  const [before, now] = [0, 1].map((side) => exactTotal(0, key, state.phase, side));
  return element("span", { class: "was" }, `was ${si(before)}, ${relative(Number(before), Number(now))}`);
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

// Radio buttons: the arrows choose the one beside.
function choices(box, options) {
  const focused = [...box.children].indexOf(document.activeElement);
  box.replaceChildren(...options.map(({ chosen, choose, attributes, content }, place) => element("button", {
    type: "button",
    role: "radio",
    "aria-checked": String(chosen),
    tabindex: chosen ? 0 : -1,
    ...attributes,
    on: {
      click: choose,
      keydown: (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const next = (place + step + options.length) % options.length;
        box.children[next].focus();
        options[next].choose();
      },
    },
  }, ...content)));
  if (focused >= 0) box.children[focused]?.focus();
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
  ]));
}
