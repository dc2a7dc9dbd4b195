// How live bytes ran: the most in each stretch of the allocations, those of the count before as a dashed line.

import { comparing, NOW, report } from "./data.js";
import { byId, drawn } from "./dom.js";
import { inBytes, plural } from "./numbers.js";

const [WIDTH, HEIGHT] = [1000, 190];
const [LEFT, RIGHT, TOP, BOTTOM] = [80, 10, 14, 24];
const FLOOR = HEIGHT - BOTTOM;

export function showCurve() {
  const { memory } = report;
  byId("curve").hidden = !memory.length;
  if (!memory.length) return;
  const most = Math.max(1, ...memory.flatMap(({ curve }) => curve.map(Number)));
  const chart = byId("curve-chart");
  for (const part of [0, 0.5, 1]) {
    const y = heightOf(part * most, most);
    drawn(chart, "line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y });
    drawn(chart, "text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, inBytes(Math.round(part * most)));
  }
  drawArea(chart, memory[NOW].curve.map(Number), most);
  if (comparing) drawn(chart, "polyline", { class: "was", points: points(memory[0].curve.map(Number), most) });
  drawn(chart, "text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, plural(memory[NOW].allocations, "allocation"));
  byId("curve-key").textContent = memory.map(words).join("; ");
}

function drawArea(chart, curve, most) {
  const [from, to] = [placeOf(0, curve), placeOf(curve.length - 1, curve)];
  drawn(chart, "polygon", { class: "now", points: `${from},${FLOOR} ${points(curve, most)} ${to},${FLOOR}` });
  const at = curve.indexOf(Math.max(...curve));
  drawn(chart, "circle", { class: "top", cx: placeOf(at, curve), cy: heightOf(curve[at], most), r: 4 });
}

function points(curve, most) {
  return curve.map((size, at) => `${placeOf(at, curve)},${heightOf(size, most)}`).join(" ");
}

function placeOf(at, { length }) {
  return LEFT + ((WIDTH - LEFT - RIGHT) * at) / Math.max(1, length - 1);
}

function heightOf(size, most) {
  return FLOOR - ((FLOOR - TOP) * size) / most;
}

function words({ curve, device }, side) {
  const when = comparing ? ["before", "now"][side] : "";
  const peak = inBytes(Math.max(...curve.map(Number)));
  return [when && `${when}: `, `peak ${peak}`, device && ` on ${device}`].filter(Boolean).join("");
}
