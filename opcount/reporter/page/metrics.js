// What modules can be measured by.

import { report } from "./data.js";

export const METRICS = [
  { key: "macs", label: "MACs" },
  { key: "flops", label: `FLOPs (${report.convention.name})` },
  { key: "activations", label: "Activations" },
  { key: "params", label: "Parameters", still: true },
];

export function metricOf(key) {
  return METRICS.find((metric) => metric.key === key);
}
