// Radio buttons: the arrows choose the one beside.

import { element } from "./dom.js";

// Fills a box with options {chosen, choose, attributes, content}.
export function choices(box, options) {
  const focused = [...box.children].indexOf(document.activeElement);
  box.replaceChildren(...options.map(({ chosen, choose, attributes, content }, place) => element("button", {
    type: "button",
    role: "radio",
    "aria-checked": String(chosen),
    tabindex: chosen ? 0 : -1,
    ...attributes,
    on: {
      click: choose,
      keydown: (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const next = (place + step + options.length) % options.length;
        box.children[next].focus();
        options[next].choose();
      },
    },
  }, ...content)));
  if (focused >= 0) box.children[focused]?.focus();
}
