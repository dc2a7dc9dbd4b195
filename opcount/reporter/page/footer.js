// What the numbers mean, and where they come from.

import { report } from "./data.js";
import { byId, element } from "./dom.js";
import { labelOf, metrics, OTHER_MEANINGS } from "./metrics.js";
import { subscribe } from "./state.js";

export function showFooter() {
  subscribe(["convention", "device"], drawMeanings);
  byId("provenance").append(...report.provenance.map((facts) => element("p", {}, facts)));
}

function drawMeanings() {
  const words = [...metrics().map(({ key, meaning }) => [labelOf(key), meaning()]), ...OTHER_MEANINGS];
  byId("meanings").replaceChildren(...words.flatMap(([word, meaning]) => [element("dt", {}, word), element("dd", {}, meaning)]));
}
