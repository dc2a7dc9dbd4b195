// What the reader looks at. Views subscribe to the parts that they draw.

import { ROOT } from "./data.js";
import { ALL } from "./totals.js";

export const state = {
  metric: "macs",
  phase: ALL,
  zoom: ROOT,
  pointed: null,
  query: "",
  sort: null,
  shown: 200,
  onlyChanged: true,
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
