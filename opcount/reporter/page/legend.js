// What the colours mean; a type's entry searches for it.

import { comparing } from "./data.js";
import { hasOtherTypes, listedTypes, ofType } from "./colors.js";
import { byId, element } from "./dom.js";
import { update } from "./state.js";

export function showLegend() {
  byId("legend").append(...(comparing ? scale() : typeEntries()));
}

function scale() {
  return ["-50 %", element("span", { class: "scale" }), "+50 % or new; width: the larger of both"];
}

function typeEntries() {
  const listed = listedTypes.map(({ type }) => element(
    "button",
    { type: "button", on: { click: () => update({ query: type }) } },
    swatch(ofType(type)),
    type || "outside modules",
  ));
  const others = hasOtherTypes ? [element("span", {}, swatch("var(--other)"), " other types")] : [];
  return [...listed, ...others, element("span", {}, swatch("var(--container)"), " modules that only call others")];
}

function swatch(color) {
  return element("span", { class: "swatch", style: { background: color } });
}
