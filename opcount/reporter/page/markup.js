// Docstrings' markup as elements: ``code``, `names`, *words*; all else is text as it stands.

import { element } from "./dom.js";

const MARKUP = /``(.+?)``|`([^`]+)`|(?<![\w*])\*\*?([^\s*](?:[^*]*[^\s*])?)\*\*?(?![\w*])/gs;

// Returns nodes.
export function formatted(text) {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(MARKUP)) {
    const [whole, code, name, word] = found;
    nodes.push(text.slice(end, found.index), word ? element("em", {}, word) : element("code", {}, code ?? name));
    end = found.index + whole.length;
  }
  return [...nodes, text.slice(end)].filter((node) => node !== "");
}

// The same without markup, for tooltips.
export function plainText(docstring) {
  return formatted(docstring).map((node) => node.textContent ?? node).join("");
}
