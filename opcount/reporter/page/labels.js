// Labels of cells: shown whole or not at all.

import { element } from "./dom.js";

const PADDING = 14; // of a cell, both sides, and a little
const GAP = 7;

const widths = new Map();
let pen = null;

// Returns those of a name and a number for which a cell has room, below or beside each other.
export function fitting(name, number, width, isTall) {
  const room = width - PADDING;
  const [first, second] = [name, number].map(widthOf);
  if (first > room) return [];
  const hasBoth = isTall ? second <= room : first + GAP + second <= room;
  return [element("span", { class: "name" }, name), ...(hasBoth ? [element("span", { class: "value" }, number)] : [])];
}

export function widthOf(text) {
  if (!pen) {
    pen = document.createElement("canvas").getContext("2d");
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  }
  if (!widths.has(text)) widths.set(text, pen.measureText(text).width);
  return widths.get(text);
}
