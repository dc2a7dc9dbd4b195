// Where the cells of the icicle lie: the zoomed module on top over the whole width, children below in model order.

import { childrenOf } from "./folding.js";

const THINNEST = 2; // pixels
const TOGETHER = 8; // pixels of what is thinner, in one cell

// Returns cells {line, left, width, row}, shares of the width; thin ones beside one another are one cell, {thin}.
export function layout(size, top, pixels) {
  const cells = [];
  if (!sizeOf(top, size)) return cells;
  const pending = [{ line: top, left: 0, width: 1, row: 0 }];
  while (pending.length) {
    const cell = pending.pop();
    cells.push(cell);
    pending.push(...below(cell, size, pixels, cells));
  }
  return cells;
}

function below(cell, size, pixels, cells) {
  const row = cell.row + 1;
  const wide = [];
  let left = cell.left;
  let rest = null;
  for (const line of childrenOf(cell.line)) {
    const width = (cell.width * sizeOf(line, size)) / sizeOf(cell.line, size);
    if (width * pixels >= THINNEST) {
      wide.push({ line, left, width, row });
      rest = null;
    } else if (width > 0) {
      if (!rest) cells.push((rest = { thin: [], parent: cell.line, left, width: 0, row }));
      rest.thin.push(...line.modules);
      rest.width += width;
      if (rest.width * pixels >= TOGETHER) rest = null;
    }
    left += width;
  }
  return wide.reverse(); // the first is taken next
}

function sizeOf(line, size) {
  return line.modules.length * size[line.module.index];
}
