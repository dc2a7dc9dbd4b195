// The numbers of one record: as counted, as FLOPs under a convention, as the least time on a device.

import { report } from "./data.js";
import { convention, device } from "./metrics.js";
import { state } from "./state.js";

const { records, operators } = report;

export function amountOf(key, row) {
  if (key === "flops") return convention().perMac * Number(records.macs[row]) + (isPriced(row) ? Number(records.arith[row]) : 0);
  if (key === "time") return floorOf(row).seconds;
  if (key === "bound") return boundOf(floorOf(row));
  if (key === "unrated") return hasNoPeak(row) ? Number(records.macs[row]) : 0;
  return Number(records[key][row]);
}

// Beyond 2^53, doubles do not hold every whole number.
export function exactAmountOf(key, row) {
  if (key !== "flops") return BigInt(records[key][row]);
  return BigInt(convention().perMac) * BigInt(records.macs[row]) + (isPriced(row) ? BigInt(records.arith[row]) : 0n);
}

// Returns {compute, memory, seconds}: the longer of both is the operator's time.
export function floorOf(row) {
  const { bandwidth, peaks } = device();
  const peak = peaks[records.dtype[row]];
  const macs = Number(records.macs[row]);
  const compute = macs && peak ? (2 * macs) / peak : 0;
  const memory = Number(records.traffic[row]) / bandwidth;
  return { compute, memory, seconds: Math.max(compute, memory) };
}

// The part of an operator's time that is bound by arithmetic: all or nothing.
function boundOf({ compute, memory }) {
  return compute > memory ? compute : 0;
}

// True if the device has no peak for what an operator computes in: only its traffic takes time.
export function hasNoPeak(row) {
  return Number(records.macs[row]) > 0 && !device().peaks[records.dtype[row]];
}

// Operators that compute nothing are there for the bytes that they move.
export function isShown(row, key) {
  const { family } = operators[records.operator[row]];
  return family === "uncounted" || (amountOf(key, row) !== 0 && (family !== "free" || key === "traffic" || key === "time"));
}

function isPriced(row) {
  return operators[records.operator[row]].priced[state.convention];
}
