// The page: its controls and notices.

import { toJson, toSrt, toText, toVtt } from "./captions.mjs";
import { Meter } from "./meter.mjs";
import { Recording } from "./recording.mjs";
import { Captions } from "./view.mjs";
import { STATES, problem, time } from "./words.mjs";

const SIZES = [0.75, 0.875, 1, 1.25, 1.5, 2, 2.5, 3];
const RETRY = 15_000; // ms after which an overlay, which nobody operates, tries again
const FADE = 6_000; // ms that an overlay shows the last caption

const isOverlay = document.documentElement.dataset.view === "overlay";
const $ = (id) => document.getElementById(id);
const service = new URL(".", location.href).href.replace(/^http/, "ws").replace(/\/$/, "");

const captions = new Captions(isOverlay);
const meter = new Meter();
let finals = [];
let seconds = 0; // length of the transcript
let recording = null; // the current one

// ---- state -----------------------------------------------------------------------------------------------------------

function show(state, held = 0, lost = 0) {
  document.documentElement.dataset.state = state;
  if ($("state").textContent !== STATES[state]) $("state").textContent = STATES[state];
  const buffered = [held >= 0.1 && `${held.toFixed(1)} s buffered`, lost && `${lost.toFixed(1)} s lost`];
  $("held").textContent = buffered.filter(Boolean).join(", ");
  $("start-text").textContent = !recording ? "Start" : state === "ending" ? "Skip" : "Stop";
  $("source").disabled = recording !== null;
  document.title = `${recording ? "● " : ""}Captions · speechbridge`;
}

async function begin(choice) {
  dismiss();
  $("latency").textContent = "–";
  const started = (recording = new Recording(service, {
    seconds,
    accessKey: stored("sessionStorage", "key") ?? "",
    on: {
      state: (...state) => recording === started && show(...state),
      notify,
      mention: (notice) => $("notice").dataset.key || notify(notice),
      withdraw: dismiss,
      frame(levels, until) {
        seconds = until;
        meter.push(levels);
        $("elapsed").textContent = time(seconds);
      },
      message(message) {
        captions.show(message);
        if (message.type === "final" && !isOverlay) finals.push(message);
        $("empty").hidden = true;
        fade();
      },
      latency: (ms) => ($("latency").textContent = `${(ms / 1000).toFixed(1)} s`),
      over(state) {
        recording = null;
        lock?.release();
        meter.clear();
        show(state);
      },
    },
  }));
  if (await started.begin(choice)) {
    stayAwake();
    listSources();
  }
}

// ---- notices --------------------------------------------------------------------------------------------------------

const ACTIONS = {
  again: ["Try again", () => start()],
  resume: ["Resume", () => recording?.resume()],
};
const TRANSIENT = ["silent", "away", "lost"]; // not shown on an overlay
let retry; // timer of an overlay

function notify({ key, title, text, reason = "", action }) {
  if (isOverlay && TRANSIENT.includes(key)) return;
  const notice = $("notice");
  notice.dataset.key = key;
  notice.querySelector("h2").textContent = title;
  notice.querySelector(".text").textContent = text;
  notice.querySelector(".reason").textContent = reason && `Reason: ${reason}`;
  $("key-form").hidden = action !== "key";
  const [label] = ACTIONS[action] ?? [];
  $("act").hidden = !label;
  $("act").textContent = label ?? "";
  $("act").onclick = () => {
    dismiss();
    ACTIONS[action][1]();
  };
  notice.hidden = false;
  if (action === "key") $("key").focus();
  if (isOverlay && action === "again") retry = setTimeout(start, RETRY);
}

/** Hide a notice: the one with that key, if it is shown, or any. */
function dismiss(key = $("notice").dataset.key) {
  if ($("notice").dataset.key !== key) return;
  delete $("notice").dataset.key;
  $("notice").hidden = true;
}

$("dismiss").addEventListener("click", () => {
  dismiss();
  $("start").focus();
});

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  store("sessionStorage", "key", $("key").value.trim());
  $("key").value = "";
  dismiss();
  start();
});

// ---- audio sources --------------------------------------------------------------------------------------------------

async function listSources() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const microphones = devices.filter(
    ({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default",
  );
  const named = microphones.filter(({ label }) => label); // they have names once access was allowed
  const options = [
    ["microphone", "Default microphone"],
    ...named.map(({ deviceId, label }) => [`microphone ${deviceId}`, label]),
    ...(isOverlay ? [] : [["file", "A file …"]]),
    ...(!isOverlay && navigator.mediaDevices?.getDisplayMedia ? [["tab", "Another tab …"]] : []),
  ];
  const chosen = (!recording && stored("localStorage", "source")) || $("source").value;
  $("source").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  $("source").value = options.some(([value]) => value === chosen) ? chosen : "microphone";
}

$("source").addEventListener("change", () => store("localStorage", "source", $("source").value));
navigator.mediaDevices?.addEventListener("devicechange", listSources);

function start() {
  clearTimeout(retry);
  if (recording) return;
  const [kind, device] = $("source").value.split(" ");
  if (kind === "file") $("file").click();
  else begin({ kind, device });
}

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file && !recording) begin({ kind: "file", file });
  $("file").value = ""; // so that the same file can be chosen again
});

$("start").addEventListener("click", () => (recording ? recording.stop() : start()));

document.addEventListener("keydown", (event) => {
  const isTaken =
    event.target.closest("button, input, select, [popover]") || event.ctrlKey || event.altKey || event.metaKey;
  if (event.code !== "Space" || event.repeat || isTaken) return;
  event.preventDefault();
  $("start").click();
});

addEventListener("online", () => recording?.retryNow());
addEventListener("beforeunload", (event) => recording && !isOverlay && event.preventDefault());

// ---- the screen -----------------------------------------------------------------------------------------------------

let lock; // keeps the screen awake

async function stayAwake() {
  if (!recording || document.hidden || lock?.released === false) return;
  lock = await navigator.wakeLock?.request("screen").catch(() => undefined); // may be refused, for example on low battery
  if (!recording) lock?.release();
}

document.addEventListener("visibilitychange", stayAwake); // browsers release the lock when the page is hidden

let fading;

function fade() {
  if (!isOverlay) return;
  clearTimeout(fading);
  delete document.documentElement.dataset.faded;
  fading = setTimeout(() => (document.documentElement.dataset.faded = ""), FADE);
}

function resize(step) {
  const now = Number(stored("localStorage", "size") ?? 1);
  const size = SIZES[Math.max(0, Math.min(SIZES.length - 1, SIZES.indexOf(now) + step))];
  store("localStorage", "size", size);
  document.documentElement.style.setProperty("--size", size);
}

$("smaller").addEventListener("click", () => resize(-1));
$("larger").addEventListener("click", () => resize(+1));

// ---- saving ---------------------------------------------------------------------------------------------------------

const FORMATS = {
  txt: [toText, "text/plain"],
  srt: [toSrt, "application/x-subrip"],
  vtt: [toVtt, "text/vtt"],
  json: [toJson, "application/json"],
};

$("save").addEventListener("click", ({ target }) => {
  const format = target.closest("[data-save]")?.dataset.save;
  if (!format) return;
  $("save").hidePopover();
  if (format === "copy")
    navigator.clipboard.writeText(toText(finals)).then(
      () => flash("Copied"),
      () => flash("Blocked"),
    );
  else download(format);
});

function download(format) {
  const [write, type] = FORMATS[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(finals)], { type: `${type};charset=utf-8` }));
  link.download = `captions.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser has started to read it by then
}

function flash(text) {
  $("open-save").textContent = text;
  setTimeout(() => ($("open-save").textContent = "Save"), 2500);
}

const CLEAR = ["start a new transcript", "click again to confirm"];

$("clear").addEventListener("click", () => {
  if ($("clear-text").textContent === CLEAR[0]) {
    $("clear-text").textContent = CLEAR[1];
    return;
  }
  $("save").hidePopover();
  finals = [];
  captions.clear();
  if (recording) return; // its timestamps continue
  seconds = 0;
  $("elapsed").textContent = time(0);
  $("empty").hidden = false;
});

$("save").addEventListener("toggle", () => ($("clear-text").textContent = CLEAR[0]));

function stored(storage, name) {
  try {
    return globalThis[storage].getItem(`speechbridge.${name}`);
  } catch {
    return null; // storage is blocked
  }
}

function store(storage, name, value) {
  try {
    globalThis[storage].setItem(`speechbridge.${name}`, value);
  } catch {
    // Storage is blocked: the value lasts for this visit.
  }
}

await listSources();
if (!isSecureContext) notify(problem("insecure", location));
else if (!globalThis.AudioWorkletNode) notify(problem("no-worklet"));
if (isOverlay) {
  document.addEventListener("click", ({ target }) => target.closest("#notice") || start());
  start();
}
