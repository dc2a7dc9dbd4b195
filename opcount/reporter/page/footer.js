// How the numbers are read, and where they come from.

import { report } from "./data.js";
import { byId, element } from "./dom.js";

export function showFooter() {
  const { name, summary } = report.convention;
  byId("footer").append(
    element("p", {}, `FLOPs: convention ${name} (${summary}). Operators that compute nothing are left out.`),
    ...report.provenance.map((facts) => element("p", {}, facts)),
  );
}
