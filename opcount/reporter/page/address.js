// The view in the address, so that a link to the file shows what its sender saw, and Back zooms out.

import { ALL, report, ROOT } from "./data.js";
import { metrics } from "./metrics.js";
import { NUMBERS, state, subscribe, update } from "./state.js";
import { sizes } from "./totals.js";

export function followAddress() {
  subscribe([...NUMBERS, "zoom", "query", "unfolded"], (changed) => write(changed.includes("zoom")));
  window.addEventListener("popstate", readAddress);
}

export function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const zoom = report.modules.findIndex((module) => module.path === wanted.get("zoom"));
  const device = placeOf(report.devices, wanted.get("device"));
  const convention = placeOf(report.conventions, wanted.get("convention"));
  update({ device: device ?? report.device, convention: convention ?? report.convention });
  const metric = metrics().find(({ key }) => key === wanted.get("metric"));
  const unfolded = wanted.getAll("unfold").map((path) => report.modules.findIndex((module) => module.path === path && module.run));
  update({
    unfolded: unfolded.filter((index) => index > ROOT),
    zoom: Math.max(zoom, ROOT),
    metric: metric ? metric.key : firstMetric(),
    phase: report.phases.indexOf(wanted.get("phase")),
    query: wanted.get("search") ?? "",
  });
}

function placeOf(named, name) {
  const place = named.findIndex((each) => each.name === name);
  return place < 0 ? null : place;
}

function firstMetric() {
  const [macs, flops] = ["macs", "flops"].map((key) => sizes(key, ALL)[ROOT]);
  return macs || !flops ? "macs" : "flops";
}

function write(isStep) {
  const view = new URLSearchParams();
  if (state.zoom !== ROOT) view.set("zoom", report.modules[state.zoom].path);
  if (state.metric !== firstMetric()) view.set("metric", state.metric);
  if (state.phase !== ALL) view.set("phase", report.phases[state.phase]);
  if (state.convention !== report.convention) view.set("convention", report.conventions[state.convention].name);
  if (state.device !== report.device) view.set("device", report.devices[state.device]?.name ?? "");
  for (const index of state.unfolded) view.append("unfold", report.modules[index].path);
  if (state.query) view.set("search", state.query);
  const hash = `#${view}`;
  if (hash === location.hash || (hash === "#" && !location.hash)) return;
  try {
    history[isStep ? "pushState" : "replaceState"](null, "", hash);
  } catch {
    // a page inside a notebook has no address of its own
  }
}
