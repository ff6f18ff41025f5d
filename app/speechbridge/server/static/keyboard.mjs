// Keyboard shortcuts.

import { remember, remembered } from "./remembered.mjs";

const NATIVE = "button, input, select, summary, a"; // Space operates these

const $ = (id) => document.getElementById(id);

let isTabbing = false; // the user moves the focus with the keyboard

/**
 * Call functions for keys: `{ Space, f, ... }`, by the lower-case character.
 *
 * Space starts and stops wherever the focus is, after a click on another button too. Only when the user has moved the
 * focus to a control with the keyboard does Space operate that control, as everywhere.
 */
export function listen(actions) {
  $("shortcuts").checked = remembered("shortcuts") !== "off";
  $("shortcuts").addEventListener("change", ({ target }) => remember("shortcuts", target.checked ? null : "off"));
  addEventListener("pointerdown", () => (isTabbing = false), true);
  addEventListener("keydown", (event) => {
    if (event.key === "Tab" || event.code === "Tab") isTabbing = true; // WebKitGTK gives no key with Shift
    const { target } = event;
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (isTyping(target) || document.querySelector("dialog[open]")) return;
    const name = event.code === "Space" ? "Space" : event.key.toLowerCase();
    const act = actions[name];
    if (!act || !isOurs(name, target)) return;
    event.preventDefault();
    if (!event.repeat || "+-".includes(name)) act();
  });
  // A button is pressed when Space is released.
  addEventListener("keyup", (event) => {
    if (event.code === "Space" && isSpaceOurs(event.target) && !isTyping(event.target)) event.preventDefault();
  });
}

function isOurs(name, target) {
  if (name === "Space") return isSpaceOurs(target);
  if (name.startsWith("arrow")) return !target.closest("input, select, [popover], #captions");
  return $("shortcuts").checked;
}

function isSpaceOurs(target) {
  return !document.querySelector("dialog[open]") && !(isTabbing && target.closest(NATIVE));
}

function isTyping(target) {
  if (!target.checkVisibility()) return false; // a field of a dialog that was just closed keeps the focus for a moment
  return target.matches("input:not([type=checkbox], [type=radio], [type=range]), textarea");
}
