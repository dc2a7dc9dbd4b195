// Drawings that stand alone: their colours and fonts are attributes, as programs other than browsers need them.

import { comparing, report } from "./data.js";
import { byId, drawn } from "./dom.js";
import { widthOf } from "./labels.js";
import { device, labelOf } from "./metrics.js";
import { state } from "./state.js";

const EDGE = 16;
const LINE = 20;
const SWATCH = 12;
const BASELINE = 4; // below the middle of a line of 12 pixels

const PROPERTIES = ["fill", "fill-opacity", "stroke", "stroke-width", "font-size", "paint-order"];

let pen = null;

// The icicle as it is zoomed, under its title, with its legend.
export function chartPicture() {
  const box = byId("icicle");
  const legend = byId("legend");
  const phase = report.phases[state.phase];
  const { svg, top } = sheet(box.clientWidth, box.clientHeight + legend.offsetHeight + LINE, [labelOf(state.metric), phase]);
  for (const node of box.children) drawCell(svg, node, top);
  drawLegend(svg, legend, top + box.clientHeight + LINE / 2);
  return svg;
}

export function rooflinePicture() {
  const chart = byId("roofline-chart");
  const { svg, top } = sheet(chart.clientWidth, chart.clientHeight, [`Roofline on ${device().name}`, report.phases[state.phase]]);
  const copy = chart.cloneNode(true);
  const nodes = [...chart.querySelectorAll("*")];
  [...copy.querySelectorAll("*")].forEach((node, place) => settle(node, getComputedStyle(nodes[place])));
  drawn(svg, "g", { transform: `translate(${EDGE} ${top})` }, ...copy.childNodes);
  return svg;
}

// Returns an empty drawing of that size below a title and what the numbers are.
function sheet(width, height, about) {
  const svg = byId("roofline-chart").cloneNode(false);
  for (const { name } of [...svg.attributes]) svg.removeAttribute(name);
  const facts = [...about.filter(Boolean), byId("headline").textContent].join("; ");
  const lines = [document.title, ...[facts, byId("subtitle").textContent].flatMap((text) => wrapped(text, width))];
  const top = EDGE + LINE * lines.length;
  const size = { width: width + 2 * EDGE, height: height + top + EDGE };
  for (const [name, value] of Object.entries({ ...size, viewBox: `0 0 ${size.width} ${size.height}`, "font-family": "system-ui, sans-serif" })) svg.setAttribute(name, value);
  drawn(svg, "rect", { ...size, fill: plain(getComputedStyle(document.body).backgroundColor) });
  lines.forEach((text, place) => drawn(svg, "text", {
    x: EDGE,
    y: EDGE + LINE * place + LINE / 2,
    "font-size": place ? 12 : 16,
    "font-weight": place ? 400 : 650,
    fill: plain(getComputedStyle(document.body).color),
  }, text));
  return { svg, top };
}

function wrapped(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (widthOf(longer) > width && lines.at(-1)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.filter(Boolean);
}

function drawLegend(svg, legend, top) {
  const fill = plain(getComputedStyle(legend).color);
  const base = legend.offsetTop - LINE / 2;
  if (comparing) drawn(svg, "text", { x: EDGE, y: top + LINE / 2, "font-size": 12, fill }, "red: grown or new; blue: shrunk or gone; width: the larger of both");
  for (const swatch of comparing ? [] : legend.querySelectorAll(".swatch")) {
    const [x, y] = [EDGE + swatch.offsetLeft - legend.offsetLeft, top + swatch.offsetTop - base];
    drawn(svg, "rect", { x, y: y - SWATCH / 2, width: SWATCH, height: SWATCH, rx: 3, fill: plain(getComputedStyle(swatch).backgroundColor) });
    drawn(svg, "text", { x: x + SWATCH + 6, y: y + BASELINE, "font-size": 12, fill }, swatch.parentNode.textContent.trim());
  }
}

function drawCell(svg, node, top) {
  const [x, y] = [EDGE + node.offsetLeft, top + node.offsetTop];
  const style = getComputedStyle(node);
  const size = { width: node.offsetWidth, height: node.offsetHeight };
  const ground = plain(getComputedStyle(document.body).backgroundColor);
  const fill = plain(style.backgroundColor);
  const cell = drawn(svg, "g", { opacity: style.opacity });
  const title = node.getAttribute("aria-label") ?? node.title;
  drawn(cell, "rect", { x, y, ...size, rx: 3, fill, stroke: ground });
  drawn(cell.lastChild, "title", {}, title);
  for (const text of node.children) {
    const [left, middle] = [text.offsetLeft, text.offsetTop + text.offsetHeight / 2];
    drawn(cell, "text", { x: x + left, y: y + middle + BASELINE, "font-size": 12, fill: plain(style.color), opacity: getComputedStyle(text).opacity }, text.textContent);
  }
}

function settle(node, style) {
  for (const property of PROPERTIES) {
    const value = style.getPropertyValue(property);
    node.setAttribute(property, property === "fill" || property === "stroke" ? plain(value) : value);
  }
  for (const name of ["class", "role", "aria-label"]) node.removeAttribute(name);
}

// A colour as hexadecimal digits: browsers know more ways to write one than other programs do.
function plain(color) {
  if (color === "none") return color;
  pen ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = color;
  pen.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
  return alpha ? `#${[red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("")}` : "none";
}
