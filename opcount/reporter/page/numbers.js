// Counts as text, the same to the digit as in opcount's other reports.

const PREFIXES = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const DIGITS = 3n;

export function si(count) {
  const number = BigInt(count);
  const size = number < 0n ? -number : number;
  if (size < 1000n) return String(number);
  let power = Math.floor((String(size).length - 1) / 3);
  let thousandths = divide(size * 10n ** DIGITS, 1000n ** BigInt(power));
  if (thousandths >= 1000n * 10n ** DIGITS) {
    power += 1;
    thousandths = divide(size * 10n ** DIGITS, 1000n ** BigInt(power));
  }
  if (power >= PREFIXES.length) return Number(number).toExponential(Number(DIGITS));
  const text = String(thousandths);
  const point = text.length - Number(DIGITS);
  return `${number < 0n ? "-" : ""}${text.slice(0, point)}.${text.slice(point)} ${PREFIXES[power]}`;
}

export function inBytes(count) {
  const text = si(count);
  return `${text}${text.includes(" ") ? "" : " "}B`;
}

const UNITS = [["s", 1], ["ms", 1e-3], ["us", 1e-6], ["ns", 1e-9], ["ps", 1e-12]];

export function seconds(time) {
  const [unit, scale] = UNITS.find((each) => Math.abs(time) >= each[1]) ?? ["s", 1];
  return time ? `${(time / scale).toFixed(3)} ${unit}` : "0 s";
}

// A rate or a ratio with four digits at most, and the prefix of its size.
export function inUnits(number) {
  let power = 0;
  while (number / 1000 ** power >= 1000 && power < PREFIXES.length - 1) power += 1;
  return `${Number((number / 1000 ** power).toPrecision(4))} ${PREFIXES[power]}`;
}

export function exact(count) {
  return BigInt(count).toLocaleString("en-US");
}

export function percent(part, whole) {
  if (!whole) return "-";
  const share = (100 * part) / whole;
  if (share > 0 && share < 0.05) return "<0.1 %";
  if (share >= 99.95 && share < 100) return ">99.9 %";
  return `${tenths(share)} %`;
}

export function relative(before, now) {
  if (before === now) return "=";
  if (!before) return "new";
  const change = (100 * (now - before)) / before;
  const sign = change > 0 ? "+" : "-";
  if (Math.abs(change) < 0.05) return `${sign}<0.1 %`;
  return `${sign}${tenths(Math.abs(change))} %`;
}

export function plural(count, noun) {
  return count === 1 ? `1 ${noun}` : `${count.toLocaleString("en-US")} ${noun}s`;
}

// Both round halves to even, as Python does.

function divide(number, by) {
  const quotient = number / by;
  const twice = 2n * (number % by);
  return twice > by || (twice === by && quotient % 2n === 1n) ? quotient + 1n : quotient;
}

function tenths(number) {
  const scaled = number * 10;
  const floor = Math.floor(scaled);
  return scaled - floor === 0.5 ? ((floor + (floor % 2)) / 10).toFixed(1) : number.toFixed(1);
}
