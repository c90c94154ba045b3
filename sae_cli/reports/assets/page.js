"use strict";
// Light or dark: as the system says, until the reader says otherwise.

const THEME = "sae-report-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function remembered() {
  try { return localStorage.getItem(THEME); } catch { return null; }
}

function show(theme) {
  document.documentElement.dataset.theme = theme;
  return redraw();
}

show(remembered() ?? (system.matches ? "dark" : "light"));
system.addEventListener("change", () => { if (!remembered()) show(system.matches ? "dark" : "light"); });
document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem(THEME, theme); } catch { /* pages from the disk may not remember */ }
  show(theme);
});
numbers.catch((error) => {
  const said = `This browser cannot unpack the numbers of this page (${error.message}): charts and features are left out.`;
  document.getElementById("main").prepend(element("p", { className: "missing" }, said));
});
window.addEventListener("beforeprint", () => document.querySelectorAll("figure.chart:not([data-drawn])").forEach(draw));
