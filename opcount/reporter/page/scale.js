// Logarithmic axes.

const MARGIN = 0.3; // decades beyond what is shown
const LEAST = 2; // decades

// Returns {of(number), ticks} for numbers that are to lie between two places.
export function logarithmic(numbers, from, to) {
  const logs = numbers.map(Math.log10);
  let [low, high] = [Math.min(...logs) - MARGIN, Math.max(...logs) + MARGIN];
  const lacking = Math.max(0, LEAST - (high - low)) / 2;
  [low, high] = [low - lacking, high + lacking];
  const step = Math.max(1, Math.ceil((high - low) / 8));
  const ticks = [];
  for (let power = Math.ceil(low); power <= high; power += 1) if (power % step === 0) ticks.push(10 ** power);
  return { of: (number) => from + ((to - from) * (Math.log10(number) - low)) / (high - low), ticks, first: 10 ** low, last: 10 ** high };
}
