// The screen: it stays awake while captions run, and in full screen the controls fade.

const IDLE = 3_000; // ms without pointer or key events after which the controls fade in full screen

const IN_USE = "#notice:not([hidden]), :popover-open, dialog[open]"; // while any of these is shown, nothing fades

const root = document.documentElement;

let lock; // keeps the screen awake
let isLive = () => false;

/** Keep the screen awake while `live()` holds. Call again when it changes. */
export async function stayAwake(live = isLive) {
  isLive = live;
  if (!isLive() || document.hidden || lock?.released === false) return;
  lock = await navigator.wakeLock?.request("screen").catch(() => undefined); // the browser may refuse it
  if (!isLive()) lock?.release();
}

export function allowSleep() {
  lock?.release();
}

document.addEventListener("visibilitychange", () => stayAwake()); // browsers release the lock when the page is hidden

/** Enter or leave full screen. */
export function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else root.requestFullscreen?.({ navigationUI: "hide" }).catch(() => {}); // it may be refused
}

let fading;

function wake() {
  clearTimeout(fading);
  delete root.dataset.idle;
  if (document.fullscreenElement) fading = setTimeout(fade, IDLE);
}

function fade() {
  if (document.querySelector(IN_USE)) wake();
  else root.dataset.idle = "";
}

// A notice that appears later must be seen.
new MutationObserver(() => "idle" in root.dataset && document.querySelector(IN_USE) && wake()).observe(
  document.getElementById("notice"),
  { attributeFilter: ["hidden"] },
);

for (const event of ["pointermove", "pointerdown", "keydown", "focusin", "fullscreenchange"]) {
  document.addEventListener(event, wake, { passive: true });
}
document.addEventListener("fullscreenchange", () => {
  const is = document.fullscreenElement !== null;
  root.toggleAttribute("data-full", is);
  document.getElementById("full-screen").ariaLabel = is ? "Leave full screen" : "Full screen";
});
if (!root.requestFullscreen) document.getElementById("full-screen").hidden = true; // iPhones have none
