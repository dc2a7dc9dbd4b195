// The view in the address, so that a link to the file shows what its sender saw, and Back zooms out.

import { report, ROOT } from "./data.js";
import { METRICS } from "./metrics.js";
import { state, subscribe, update } from "./state.js";
import { ALL } from "./totals.js";

export function followAddress() {
  subscribe(["metric", "phase", "zoom", "query"], (changed) => write(changed.includes("zoom")));
  window.addEventListener("popstate", readAddress);
}

export function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const zoom = report.modules.findIndex((module) => module.path === wanted.get("zoom"));
  const metric = METRICS.find(({ key }) => key === wanted.get("metric"));
  update({
    zoom: Math.max(zoom, ROOT),
    metric: metric ? metric.key : firstMetric(),
    phase: report.phases.indexOf(wanted.get("phase")),
    query: wanted.get("search") ?? "",
  });
}

function firstMetric() {
  const { records } = report;
  return records.macs.some(Number) || !records.flops.some(Number) ? "macs" : "flops";
}

function write(isStep) {
  const view = new URLSearchParams();
  if (state.zoom !== ROOT) view.set("zoom", report.modules[state.zoom].path);
  if (state.metric !== firstMetric()) view.set("metric", state.metric);
  if (state.phase !== ALL) view.set("phase", report.phases[state.phase]);
  if (state.query) view.set("search", state.query);
  const hash = `#${view}`;
  if (hash === location.hash || (hash === "#" && !location.hash)) return;
  try {
    history[isStep ? "pushState" : "replaceState"](null, "", hash);
  } catch {
    // a page inside a notebook has no address of its own
  }
}
