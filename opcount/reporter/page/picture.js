// Drawings that stand alone: their colours and fonts are attributes, as programs other than browsers need them.

import { report } from "./data.js";
import { byId, drawn } from "./dom.js";
import { labelOf } from "./metrics.js";
import { state } from "./state.js";

const EDGE = 16;
const LINE = 20;
const BASELINE = 4; // below the middle of a line of 12 pixels

const PROPERTIES = ["fill", "fill-opacity", "stroke", "stroke-width", "font-size", "paint-order"];

let pen = null;

// The icicle as it is zoomed, under its title.
export function chartPicture() {
  const box = byId("icicle");
  const { svg, top } = sheet(box.clientWidth, box.clientHeight);
  for (const node of box.children) drawCell(svg, node, top);
  return svg;
}

export function rooflinePicture() {
  const chart = byId("roofline-chart");
  const { svg, top } = sheet(chart.clientWidth, chart.clientHeight);
  const copy = chart.cloneNode(true);
  const nodes = [...chart.querySelectorAll("*")];
  [...copy.querySelectorAll("*")].forEach((node, place) => settle(node, getComputedStyle(nodes[place])));
  drawn(svg, "g", { transform: `translate(${EDGE} ${top})` }, ...copy.childNodes);
  return svg;
}

// Returns an empty drawing of that size below a title and what the numbers are.
function sheet(width, height) {
  const svg = byId("roofline-chart").cloneNode(false);
  for (const { name } of [...svg.attributes]) svg.removeAttribute(name);
  const phase = report.phases[state.phase];
  const about = [labelOf(state.metric), phase, byId("headline").textContent, byId("subtitle").textContent];
  const lines = [document.title, about.slice(0, 3).filter(Boolean).join("; "), about[3]].filter(Boolean);
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
