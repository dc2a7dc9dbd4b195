// What modules can be measured by, and what each of the numbers means.

import { report } from "./data.js";
import { exact, inBytes, seconds, si } from "./numbers.js";
import { state } from "./state.js";

const knowsTraffic = "traffic" in report.records;
const tracksMemory = "live" in report.records;
const communicates = "buffer_bytes" in report.records;

const KNOWN = [
  {
    key: "macs",
    label: () => "MACs",
    meaning: () => "Multiply-accumulates of matrix products, convolutions and attention: a product that is added to a sum counts one.",
  },
  {
    key: "flops",
    label: () => `FLOPs (${convention().name})`,
    meaning: () => `Floating-point operations under the convention ${convention().name}: ${convention().summary}.`,
  },
  {
    key: "activations",
    label: () => "Activations",
    meaning: () => "Elements of the outputs of operators that multiply and accumulate, of the forward pass alone.",
  },
  {
    key: "params",
    label: () => "Parameters",
    meaning: () => "Elements of the parameters; one that modules share counts once. They have no phase.",
    still: true,
  },
  {
    key: "traffic",
    label: () => "Traffic",
    meaning: () => "Bytes read and written, the minimum traffic: each operator touches each of its operands once. Caches and fusion are not considered.",
    unit: "B",
    text: (count) => inBytes(count),
    full: (count) => `${exact(count)} B`,
    missing: () => !knowsTraffic,
  },
  {
    key: "buffer_bytes",
    label: () => "Communication",
    meaning: () => "Bytes of the payloads of collectives, sends and receives. What FSDP gathers belongs to the owner of the parameters.",
    unit: "B",
    text: (count) => inBytes(count),
    full: (count) => `${exact(count)} B`,
    missing: () => !communicates,
  },
  {
    key: "bus_bytes",
    label: () => "Bus bytes",
    meaning: () => "Bytes that collectives, sends and receives move over the link of one rank, as rings move them.",
    unit: "B",
    text: (count) => inBytes(count),
    full: (count) => `${exact(count)} B`,
    missing: () => !communicates,
  },
  {
    key: "live",
    label: () => "Live at the peak",
    meaning: () => "Bytes that were alive when most were, by the module and the operator that made them, and what they are for.",
    unit: "B",
    text: (count) => inBytes(count),
    full: (count) => `${exact(count)} B`,
    missing: () => !tracksMemory,
  },
  {
    key: "time",
    label: () => "Time floor",
    note: () => ` on ${device().name}`,
    meaning: () => `The least time on ${device().name}: for each operator the longer of its arithmetic at the device's peak and its traffic at the bandwidth, added up. No code is predicted by it.`,
    unit: "s",
    text: (count) => seconds(Number(count)),
    full: (count) => seconds(Number(count)),
    missing: () => !device(),
  },
];

export const OTHER_MEANINGS = [
  ["total", "The module with all that is below it."],
  ["own", "The module alone, without those below it."],
  ["calls", "How often the module's forward ran."],
  ["share", "The part of the whole model's number."],
];

export function convention() {
  return report.conventions[state.convention];
}

export function device() {
  return report.devices[state.device];
}

export function metrics() {
  return KNOWN.filter(({ missing }) => !missing?.());
}

export function metricOf(key) {
  return KNOWN.find((metric) => metric.key === key);
}

export function labelOf(key) {
  return metricOf(key).label();
}

// With what it depends on, and its unit, for whole numbers without either.
export function fullLabelOf(key) {
  const { label, note, unit } = metricOf(key);
  return `${label()}${note?.() ?? ""}${unit ? ` (${unit})` : ""}`;
}

export function inShort(key, count) {
  return (metricOf(key).text ?? si)(count);
}

export function inFull(key, count) {
  return (metricOf(key).full ?? exact)(count);
}

// Operators have no parameters.
export function ofOperators(key) {
  return metricOf(key).still ? "flops" : key;
}
