// Text size, font, theme and contrast: chosen in the panel, remembered, applied before the first paint by view.js.

import { remember, remembered } from "./remembered.mjs";

const SIZES = [0.75, 0.875, 1, 1.25, 1.5, 2, 2.5, 3];
const DEFAULTS = { font: "sans", theme: "auto", contrast: "normal" };

const root = document.documentElement;
const $ = (id) => document.getElementById(id);

/** Make the text larger (+1) or smaller (-1). */
export function resize(step) {
  const at = SIZES.indexOf(Number(remembered("size") ?? 1));
  const size = SIZES[Math.max(0, Math.min(SIZES.length - 1, (at < 0 ? SIZES.indexOf(1) : at) + step))];
  remember("size", size);
  root.style.setProperty("--size", size);
  $("size").textContent = `${Math.round(size * 100)} %`;
}

for (const [name, usual] of Object.entries(DEFAULTS)) {
  for (const radio of document.querySelectorAll(`[name="${name}"]`)) {
    radio.checked = radio.value === (root.dataset[name] ?? usual);
    radio.addEventListener("change", () => {
      root.dataset[name] = radio.value;
      remember(name, radio.value === usual ? null : radio.value);
      dispatchEvent(new Event("appearance"));
    });
  }
}
$("size").textContent = `${Math.round(Number(remembered("size") ?? 1) * 100)} %`;
$("smaller").addEventListener("click", () => resize(-1));
$("larger").addEventListener("click", () => resize(+1));
