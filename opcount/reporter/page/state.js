// What the reader looks at. Views subscribe to the parts that they draw.

import { ALL, report, ROOT } from "./data.js";

// What every number depends on.
export const NUMBERS = ["metric", "phase", "convention", "device"];

export const state = {
  metric: "macs",
  phase: ALL,
  convention: report.convention,
  device: report.device, // null: none was chosen
  zoom: ROOT,
  unfolded: [], // first modules of runs that are shown one by one
  folds: true,
  pointed: null,
  query: "",
  sort: null,
  shown: 200,
  onlyChanged: true,
  dots: "operators",
};

const subscribers = [];

export function subscribe(keys, draw) {
  subscribers.push({ keys, draw });
}

export function update(patch) {
  const changed = Object.keys(patch).filter((key) => state[key] !== patch[key]);
  Object.assign(state, patch);
  for (const { keys, draw } of subscribers) if (keys.some((key) => changed.includes(key))) draw(changed);
}

export function drawAll() {
  for (const { draw } of subscribers) draw(Object.keys(state));
}
