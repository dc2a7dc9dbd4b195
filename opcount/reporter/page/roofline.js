// The roofline chart: what each operator or module reaches at best, over how much it computes for each byte.

import { choices } from "./choices.js";
import { ALL, comparing, report, ROOT } from "./data.js";
import { byId, drawn, element } from "./dom.js";
import { dots, ofOperators, phaseFloor, roofs, speedOfLight } from "./floors.js";
import { widthOf } from "./labels.js";
import { device } from "./metrics.js";
import { inBytes, inUnits, percent, plural, seconds } from "./numbers.js";
import { logarithmic } from "./scale.js";
import { state, subscribe, update } from "./state.js";

const HEIGHT = 380;
const [LEFT, RIGHT, TOP, BOTTOM] = [62, 12, 14, 40];
const [SMALLEST, LARGEST] = [3.5, 13]; // radius
const MOST = 400;
const LABELLED = 6;
const NAMED = 5;
const LINE = 15;
const ABOVE = LARGEST + 4; // of a peak's label, which dots on its roof would hide

export function showRoofline() {
  byId("roofline").hidden = !report.devices.length;
  if (comparing) byId("roofline-title").textContent = "Roofline of the later count";
  const names = report.devices.map(({ name }, place) => element("option", { value: place }, name));
  byId("device").append(element("option", { value: "" }, "choose a device"), ...names);
  byId("device").addEventListener("change", ({ target }) => choose(target.value === "" ? null : Number(target.value)));
  subscribe(["device", "dots", "phase", "zoom", "unfolded", "folds"], draw);
  let drawnAt = 0;
  new ResizeObserver(([{ contentRect: { width } }]) => {
    if (Math.abs(width - drawnAt) > 1) draw();
    drawnAt = width;
  }).observe(byId("roofline"));
}

// Without a device there are no times to look at.
function choose(place) {
  update({ device: place, ...(place === null && state.metric === "time" ? { metric: "macs" } : {}) });
}

function draw() {
  byId("device").value = state.device ?? "";
  byId("floors").hidden = !device();
  byId("roofline").classList.toggle("unchosen", !device());
  if (!device()) return;
  choices(byId("dots"), ["operators", "modules"].map((name) => ({
    chosen: state.dots === name,
    choose: () => update({ dots: name }),
    attributes: { "data-dots": name },
    content: [name],
  })));
  const all = dots();
  const able = all.filter(({ macs, traffic }) => macs && traffic);
  const placed = able.slice(0, MOST);
  const lines = roofs();
  byId("roofline-facts").replaceChildren(...facts(all, able, lines).map((text) => element("p", {}, text)));
  byId("no-peak").hidden = !drawUnrated();
  drawChart(placed, lines);
}

// Names what has no peak, as a count names what has no formula.
function drawUnrated() {
  const found = ofOperators().filter(({ unrated }) => unrated);
  const names = found.map(({ name, calls }) => `${name} (${plural(calls, "call")})`).join(", ");
  byId("no-peak").textContent = `no peak on ${device().name}, so that only their traffic counts and times are lower bounds: ${names}`;
  return found.length;
}

function facts(all, able, lines) {
  const { name, bandwidth, source } = device();
  const sum = (part, of = all) => of.reduce((whole, dot) => whole + dot[part], 0);
  const operators = state.dots === "operators" ? all : ofOperators();
  const [whole, bound] = ["seconds", "bound"].map((part) => sum(part, operators));
  const light = state.zoom === ROOT && state.phase === ALL ? `; speed of light: ${seconds(speedOfLight())}` : "";
  const peaks = lines.map(({ dtypes, peak }) => `${dtypes.join(", ")} ${inUnits(peak)}FLOP/s`);
  const left = all.filter(({ macs, traffic }) => !macs || !traffic);
  const rest = able.slice(MOST);
  return [
    `Eager roofline time: ${seconds(whole)} (${percent(bound, whole)} bound by compute)${light}`,
    `Device: ${name} (${[...peaks, `${inUnits(bandwidth)}B/s`].join(", ")}; ${source})`,
    ...(lines.length ? [`Ridge: ${lines.map(({ dtypes, ridge }) => `${dtypes.join(", ")} ${inUnits(ridge)}FLOP/B`).join(", ")}`] : []),
    ...report.stages.filter(([phase]) => state.zoom === ROOT && [ALL, phase].includes(state.phase)).map(rates),
    ...(left.length ? [`Not in the chart, without multiply-accumulates: ${named(left)}`] : []),
    ...(rest.length ? [`Not in the chart, shorter than the ${MOST} longest: ${named(rest)}`] : []),
  ];
}

function named(found) {
  const names = found.slice(0, NAMED).map((dot) => `${dot.name} (${seconds(dot.seconds)})`);
  return `${names.join(", ")}${found.length > NAMED ? ` and ${(found.length - NAMED).toLocaleString("en-US")} more` : ""}`;
}

// How fast a phase generates text at most.
function rates([phase, tokens, least]) {
  const { compute, seconds: eager } = phaseFloor(phase);
  const rate = (time) => (time ? `${(tokens / time).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} tokens/s` : "any number of tokens/s");
  const any = Math.max(compute, least / device().bandwidth);
  return `${report.phases[phase]}: at most ${rate(eager)} by the eager roofline time, ${rate(any)} if weights and cache move once a call`;
}

function drawChart(placed, lines) {
  const svg = byId("roofline-chart");
  svg.replaceChildren();
  byId("tip").hidden = true;
  const width = svg.clientWidth || 640;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const points = placed.map((dot) => ({ ...dot, intensity: (2 * dot.macs) / dot.traffic, rate: (2 * dot.macs) / dot.seconds }));
  if (!points.length && !lines.length) return;
  const { bandwidth } = device();
  const x = logarithmic([...points.map((each) => each.intensity), ...lines.map(({ ridge }) => ridge)], LEFT, width - RIGHT);
  const y = logarithmic([...points.map((each) => each.rate), ...lines.map(({ peak }) => peak)], HEIGHT - BOTTOM, TOP);
  drawAxes(svg, x, y, width);
  const taken = drawRoofs(svg, x, y, lines, bandwidth);
  const most = points[0]?.seconds;
  const marks = points.map((point) => ({
    ...point,
    x: x.of(point.intensity),
    y: y.of(point.rate),
    radius: Math.max(SMALLEST, LARGEST * Math.sqrt(point.seconds / most)),
  }));
  marks.forEach((mark) => drawDot(svg, mark));
  const large = marks.slice(0, LABELLED);
  large.forEach(({ x: at, y: height, radius }) => taken.push({ left: at - radius, right: at + radius, top: height - radius, bottom: height + radius }));
  large.forEach((mark) => label(svg, mark, width, taken));
}

function drawAxes(svg, x, y, width) {
  for (const tick of x.ticks) {
    drawn(svg, "line", { class: "grid", x1: x.of(tick), x2: x.of(tick), y1: TOP, y2: HEIGHT - BOTTOM });
    drawn(svg, "text", { x: x.of(tick), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, tick < 1 ? String(tick) : inUnits(tick).trim());
  }
  for (const tick of y.ticks) {
    drawn(svg, "line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y.of(tick), y2: y.of(tick) });
    drawn(svg, "text", { x: LEFT - 6, y: y.of(tick) + 4, "text-anchor": "end" }, inUnits(tick).trim());
  }
  drawn(svg, "text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "FLOPs for each byte of traffic, 2 per MAC");
  drawn(svg, "text", { transform: `translate(13 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, "FLOP/s at best");
}

// Returns the boxes of its labels.
function drawRoofs(svg, x, y, lines, bandwidth) {
  const top = lines[0]?.peak ?? y.last;
  const start = Math.max(x.first, y.first / bandwidth);
  const end = Math.min(x.last, top / bandwidth);
  if (start < end) drawn(svg, "path", { class: "roof", d: `M${x.of(start)} ${y.of(start * bandwidth)}L${x.of(end)} ${y.of(end * bandwidth)}` });
  const labels = [];
  for (const { dtypes, peak, ridge } of lines) {
    const [left, height] = [x.of(ridge), y.of(peak)];
    drawn(svg, "path", { class: "roof", d: `M${left} ${height}L${x.of(x.last)} ${height}` });
    const name = `${dtypes.join(", ")}: ridge point at ${inUnits(ridge)}FLOP/B, ${inUnits(peak)}FLOP/s`;
    drawn(svg, "path", { class: "ridge", "data-ridge": ridge, d: `M${left} ${height - 6}l6 6l-6 6l-6 -6z` }, titled(svg, name));
    const text = `${dtypes.join(", ")} ${inUnits(peak)}FLOP/s`;
    const box = boxOf(x.of(x.last) - widthOf(text), height - ABOVE, widthOf(text));
    if (labels.some((other) => meet(box, other))) continue;
    drawn(svg, "text", { class: "peak", x: x.of(x.last), y: box.baseline, "text-anchor": "end" }, text);
    labels.push(box);
  }
  return labels;
}

function drawDot(svg, dot) {
  const text = described(dot);
  drawn(
    svg,
    "circle",
    {
      class: `dot ${dot.unrated ? "unrated" : bound(dot)}`,
      "data-name": dot.name,
      "data-intensity": dot.intensity,
      "data-rate": dot.rate,
      cx: dot.x,
      cy: dot.y,
      r: dot.radius,
      role: "img",
      "aria-label": text,
      on: { mouseenter: () => showTip(dot, text), mouseleave: () => { byId("tip").hidden = true; }, click: dot.choose ?? (() => showTip(dot, text)) },
    },
  );
}

function bound({ bound: part, seconds: whole }) {
  return 2 * part > whole ? "compute" : "memory";
}

function described(dot) {
  const reason = dot.unrated ? "no peak known" : `bound by ${bound(dot)}`;
  return [
    dot.name,
    [dot.type, plural(dot.calls, "call")].filter(Boolean).join(", "),
    `${inUnits(2 * dot.macs)}FLOP, ${inBytes(dot.traffic)}, ${inUnits(dot.intensity)}FLOP/B`,
    `at least ${seconds(dot.seconds)}, at most ${inUnits(dot.rate)}FLOP/s, ${reason}`,
  ].join("\n");
}

function showTip(dot, text) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const room = byId("roofline-chart").clientWidth - tip.offsetWidth;
  tip.style.left = `${Math.max(0, Math.min(room, dot.x + 12))}px`;
  tip.style.top = `${dot.y > HEIGHT / 2 ? dot.y - tip.offsetHeight - 14 : dot.y + 14}px`;
}

// Of the longest only, below or above their dots, and only where nothing else stands.
function label(svg, { x, y, radius, label: text }, width, taken) {
  const length = widthOf(text);
  const left = Math.max(LEFT + 4, Math.min(width - RIGHT - length, x - length / 2));
  const baselines = [y + radius + 12, y - radius - 4, y + radius + 12 + LINE, y - radius - 4 - LINE, y + radius + 12 + 2 * LINE];
  const boxes = baselines.map((baseline) => boxOf(left, baseline, length));
  const box = boxes.find((each) => each.top > TOP && each.bottom < HEIGHT - BOTTOM && !taken.some((other) => meet(each, other)));
  if (length > width - LEFT - RIGHT || !box) return;
  taken.push(box);
  drawn(svg, "text", { class: "label", x: left, y: box.baseline }, text);
}

function boxOf(left, baseline, length) {
  return { left, right: left + length, top: baseline - 10, bottom: baseline + 3, baseline };
}

function meet(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

function titled(svg, text) {
  const title = document.createElementNS(svg.namespaceURI, "title");
  title.textContent = text;
  return title;
}
