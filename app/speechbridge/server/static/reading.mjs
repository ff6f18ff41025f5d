// The page of a reader: ?read=TOKEN. It shows the captions of a shared recording, and records nothing itself.

import { resize } from "./appearance.mjs";
import { hypothesis } from "./captions.mjs";
import { copy, download } from "./exporting.mjs";
import { listen } from "./keyboard.mjs";
import { Notices } from "./notices.mjs";
import { Fading, applyOptions, overlayOptions } from "./overlay.mjs";
import { stayAwake, toggleFullScreen } from "./screen.mjs";
import { Captions } from "./view.mjs";
import { STATES, problem } from "./words.mjs";

const root = document.documentElement;
const isOverlay = root.dataset.view === "overlay";
const options = overlayOptions(location.search);
const $ = (id) => document.getElementById(id);

const captions = new Captions({ isOverlay, corrected: () => {} });
const fading = new Fading(root, isOverlay ? options.fade : 0);
const notices = new Notices({ again: () => location.reload() });
const finals = [];
let isOver = false;

function show(name) {
  root.dataset.state = name;
  if ($("state").textContent !== STATES[name]) $("state").textContent = STATES[name]; // announced to screen readers
}

const source = new EventSource(`read/${encodeURIComponent(new URLSearchParams(location.search).get("read"))}`);

source.addEventListener("open", () => show("live"));
source.addEventListener("message", ({ data }) => {
  const message = { ...hypothesis(JSON.parse(data)), begin: 0 };
  if (message.type === "final") finals.push(message);
  captions.show(message);
  fading.restart();
});
source.addEventListener("end", () => {
  isOver = true;
  source.close();
  show("ended");
});
source.addEventListener("error", () => {
  if (isOver || source.readyState !== EventSource.CLOSED) {
    if (!isOver) show("reconnecting"); // an EventSource reconnects by itself
    return;
  }
  show("stopped");
  if (!isOverlay) notices.show(problem("nothing-to-read"));
});

$("save").addEventListener("click", ({ target }) => {
  const format = target.closest("[data-save]")?.dataset.save;
  if (!format) return;
  $("save").hidePopover();
  if (format === "copy") copy(finals).catch(() => {});
  else download("captions", format, finals);
});
$("full-screen").addEventListener("click", toggleFullScreen);
listen({
  f: toggleFullScreen,
  t: () => $("text").togglePopover(),
  s: () => $("save").togglePopover(),
  "+": () => resize(+1),
  "=": () => resize(+1),
  "-": () => resize(-1),
});
document.title = "Reading along · speechbridge";
show("connecting");
stayAwake(() => !isOver);
if (isOverlay) applyOptions(root, options);
