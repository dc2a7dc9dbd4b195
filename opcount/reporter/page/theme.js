// Light, dark, or as the system is.

import { byId } from "./dom.js";

const THEMES = ["auto", "light", "dark"];

let theme = 0;

export function followTheme() {
  byId("theme").addEventListener("click", nextTheme);
}

export function nextTheme() {
  theme = (theme + 1) % THEMES.length;
  byId("theme").textContent = THEMES[theme];
  document.documentElement.dataset.theme = THEMES[theme];
}
