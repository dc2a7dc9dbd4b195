// Files made in the page: a picture of what is drawn, and the table's numbers. Nothing is sent anywhere.

import { columns } from "./columns.js";
import { byId } from "./dom.js";
import { chartPicture, rooflinePicture } from "./picture.js";
import { lines } from "./table.js";

const SHARPNESS = 2; // pixels of a PNG for one of the screen

export function followDownloads() {
  const makers = {
    svg: () => saveText("svg", "image/svg+xml", textOf(chartPicture())),
    png: () => savePicture("png", chartPicture()),
    csv: () => saveText("csv", "text/csv", table()),
    "roofline-svg": () => saveText("roofline.svg", "image/svg+xml", textOf(rooflinePicture())),
    "roofline-png": () => savePicture("roofline.png", rooflinePicture()),
  };
  for (const [id, make] of Object.entries(makers)) byId(id).addEventListener("click", make);
}

function saveText(suffix, type, text) {
  save(suffix, new Blob([text], { type: `${type};charset=utf-8` }));
}

function savePicture(suffix, svg) {
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [SHARPNESS * image.width, SHARPNESS * image.height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(suffix, blob));
  });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(textOf(svg))}`;
}

function save(suffix, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${document.title.replace(/[^\w.-]+/g, "-").replace(/^[-.]+|-+$/g, "") || "opcount"}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function textOf(svg) {
  return new XMLSerializer().serializeToString(svg);
}

// The lines of the module table, all of them, with all their digits.
function table() {
  const shown = columns();
  const names = shown.map(({ inFile }) => inFile);
  const rows = lines().map((line) => [
    line.path,
    line.module.type,
    line.modules.length,
    ...shown.map(({ value, exact }) => (exact ?? value)(line)),
  ]);
  return [["module", "type", "modules", ...names], ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");
}

// A text that a spreadsheet would compute has a ' before it.
function cell(value) {
  const text = typeof value === "string" && /^'*[=+\-@\uff0b\uff0d\uff1d\uff20\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
