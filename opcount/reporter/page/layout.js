// Where the cells of the icicle lie: the zoomed module on top over the whole width, children below in model order.

import { report } from "./data.js";

const THINNEST = 2; // pixels
const TOGETHER = 8; // pixels of what is thinner, in one cell

// Returns cells {module, left, width, row}, shares of the width; thin ones beside one another are one cell, {thin}.
export function layout(size, zoom, pixels) {
  const cells = [];
  if (!size[zoom]) return cells;
  const pending = [{ module: report.modules[zoom], left: 0, width: 1, row: 0 }];
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
  for (const module of cell.module.children) {
    const width = (cell.width * size[module.index]) / size[cell.module.index];
    if (width * pixels >= THINNEST) {
      wide.push({ module, left, width, row });
      rest = null;
    } else if (width > 0) {
      if (!rest) cells.push((rest = { thin: [], parent: cell.module, left, width: 0, row }));
      rest.thin.push(module);
      rest.width += width;
      if (rest.width * pixels >= TOGETHER) rest = null;
    }
    left += width;
  }
  return wide.reverse(); // the first is taken next
}
