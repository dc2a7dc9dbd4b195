// What modules can be measured by.

import { report } from "./data.js";

export const METRICS = [
  { key: "macs", label: "MACs" },
  { key: "flops", label: `FLOPs (${report.convention.name})` },
  { key: "activations", label: "Activations" },
  { key: "params", label: "Parameters", still: true },
  ...("traffic" in report.records ? [{ key: "traffic", label: "Bytes read and written" }] : []),
];

// Operators that compute nothing are there for the bytes that they move.
export function isShown(row, key) {
  return key === "traffic" || report.operators[report.records.operator[row]].family !== "free";
}

export function metricOf(key) {
  return METRICS.find((metric) => metric.key === key);
}
