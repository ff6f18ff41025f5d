// The page: a sound, a stream and the captions, and what is said about them.

import { hypothesis, toJson, toSrt, toText, toVtt } from "./captions.mjs";
import { CaptureClock, Latency } from "./latency.mjs";
import { Meter } from "./meter.mjs";
import { open } from "./sound.mjs";
import { LastingStream } from "./stream.mjs";
import { Captions } from "./view.mjs";
import { Problem, STATES, closing, problem, time } from "./words.mjs";

const RATE = 16000;
const SILENT = 5_000; // ms without a sound after which that is said
const AWAY = 5_000; // ms without the service after which that is
const QUIET = 0.001; // of full scale, 60 dB down: no open microphone in a room gives less
const SIZES = [0.75, 0.875, 1, 1.25, 1.5, 2, 2.5, 3];
const HASTE = 1000; // ms in which a second Stop is taken for a part of the first
const AGAIN = 15_000; // ms after which an overlay, which nobody watches over, tries again
const FADE = 6_000; // ms that an overlay shows what was said last

const isOverlay = document.documentElement.dataset.view === "overlay";
const $ = (id) => document.getElementById(id);
const service = new URL(".", location.href).href.replace(/^http/, "ws").replace(/\/$/, "");

const captions = new Captions(isOverlay);
const meter = new Meter();
let finals = [];
let seconds = 0; // of sound in these captions
let recording = null; // the one that runs

/** From Start to the last words. */
class Recording {
  #sound = null;
  #stream = null;
  #clock = null;
  #latency = null;
  #kind;
  #link = "connecting"; // or live, reconnecting
  #isInterrupted = false;
  #isEnding = false;
  #endedAt = 0;
  #heardAt = performance.now(); // when there was a sound last
  #linkedAt = performance.now(); // when the link last was another
  #lost = 0;
  #ticking = setInterval(() => this.#tell(), 500);

  async begin(choice) {
    this.#kind = choice.kind;
    this.#tell();
    const early = []; // frames that come before there is a stream
    let take = (frame) => early.push(frame);
    try {
      this.#sound = await open(choice, {
        frame: (frame) => take(frame),
        interrupted: (is) => this.#interrupted(is),
        ended: (ending) => this.stop(ending),
      });
    } catch (error) {
      if (this.#isEnding) return; // stopped while the browser asked
      this.#over();
      if (!(error instanceof Problem)) throw error;
      notify(problem(error.message, location));
      return;
    }
    if (this.#isEnding) return void this.#sound.stop(); // the same
    this.#clock = new CaptureClock(this.#sound.delay);
    this.#latency = new Latency(this.#clock);
    this.#stream = new LastingStream(service, {
      seconds,
      accessKey: stored("sessionStorage", "key") ?? "",
      on: {
        state: (link) => this.#linked(link),
        heard: (message) => this.#heard(hypothesis(message)),
        lost: (more) => (this.#lost += more),
        over: (close) => this.#closed(close),
      },
    });
    this.#heardAt = this.#linkedAt = performance.now();
    take = (frame) => this.#frame(frame);
    early.forEach(take);
    stayAwake();
    listSources();
    this.#tell();
  }

  /** Hear no more, and wait for the last words. A second time: do not wait. */
  async stop(ending = null) {
    if (this.#isEnding) {
      if (performance.now() - this.#endedAt > HASTE) this.#stream?.abandon();
      return;
    }
    this.#isEnding = true;
    this.#endedAt = performance.now();
    if (ending) notify(problem(ending));
    this.#tell();
    await this.#sound?.stop(); // its last frame comes before this returns
    if (this.#stream) this.#stream.end();
    else this.#over();
  }

  resume() {
    return this.#sound.resume();
  }

  hurry() {
    this.#stream?.hurry();
  }

  #frame({ samples, levels, time: taken }) {
    if (!samples.length) return;
    seconds += samples.length / RATE;
    this.#clock.frame(seconds, taken, performance.now());
    this.#stream.send(samples);
    meter.push(levels);
    if (Math.max(...levels) > QUIET) this.#heardAt = performance.now();
    $("elapsed").textContent = time(seconds);
    if (this.#link !== "live") this.#tell();
  }

  #heard(message) {
    captions.show(message);
    if (message.type === "final" && !isOverlay) finals.push(message);
    $("empty").hidden = true;
    fade();
    if (document.hidden) return; // nothing appears
    requestAnimationFrame((now) => {
      this.#latency.shown(message, now);
      const { median } = this.#latency;
      if (median !== undefined) $("latency").textContent = `${(median / 1000).toFixed(1)} s`;
    });
  }

  #interrupted(is) {
    this.#isInterrupted = is;
    if (is) notify(problem("interrupted"));
    else dismiss("interrupted");
    this.#heardAt = performance.now();
    this.#tell();
  }

  #linked(link) {
    if (link !== this.#link) this.#linkedAt = performance.now();
    this.#link = link;
    if (link === "live") {
      dismiss("away");
      if (this.#lost) notify(problem("lost", { seconds: this.#lost }));
      this.#lost = 0;
    }
    this.#tell();
  }

  async #closed(close) {
    const isRefused = close.code !== 1000 || !this.#isEnding;
    const unheard = this.#stream.held + this.#lost;
    if (!this.#isEnding) {
      this.#isEnding = true;
      await this.#sound.stop();
    }
    this.#over(isRefused ? "stopped" : "ended");
    if (isRefused && (close.code || close.reason)) notify(closing(close, unheard));
  }

  #over(state = "stopped") {
    clearInterval(this.#ticking);
    if (recording === this) recording = null;
    lock?.release();
    meter.clear();
    show(state);
    ["silent", "interrupted", "away"].forEach(dismiss);
  }

  get #state() {
    if (this.#isEnding) return "ending";
    if (!this.#stream) return "asking";
    if (this.#isInterrupted) return "interrupted";
    if (this.#link !== "live") return this.#link;
    return this.#kind !== "file" && performance.now() - this.#heardAt > SILENT ? "silent" : "live";
  }

  #tell() {
    const isAway = this.#stream !== null && this.#link !== "live";
    show(this.#state, isAway ? this.#stream.held : 0, isAway ? this.#lost : 0);
    const isQuiet = !$("notice").dataset.key; // what has been said is not talked over
    if (this.#state !== "silent") dismiss("silent");
    else if (isQuiet) notify(problem("silent"));
    if (isAway && isQuiet && performance.now() - this.#linkedAt > AWAY) notify(problem("away"));
  }
}

function show(state, held = 0, lost = 0) {
  document.documentElement.dataset.state = state;
  if ($("state").textContent !== STATES[state]) $("state").textContent = STATES[state];
  const told = [held >= 0.1 && `${held.toFixed(1)} s of sound held`, lost && `${lost.toFixed(1)} s lost`];
  $("held").textContent = told.filter(Boolean).join(", ");
  const runs = recording !== null;
  $("start-text").textContent = !runs ? "Start" : state === "ending" ? "Skip" : "Stop";
  $("source").disabled = runs;
  document.title = `${runs ? "● " : ""}Captions · speechbridge`;
}

// ---- what is said about it ------------------------------------------------------------------------------------------

const ACTIONS = {
  again: ["Try again", () => start()],
  resume: ["Resume", () => recording?.resume()],
};
const PASSING = ["silent", "away", "lost"]; // not for those who watch a stream
let again; // the timer of an overlay

function notify({ key, title, text, reason = "", action }) {
  if (isOverlay && PASSING.includes(key)) return;
  const notice = $("notice");
  notice.dataset.key = key;
  notice.querySelector("h2").textContent = title;
  notice.querySelector(".text").textContent = text;
  notice.querySelector(".reason").textContent = reason && `The service says: ${reason}`;
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
  if (isOverlay && action === "again") again = setTimeout(start, AGAIN);
}

/** Take a notice away: that one, if it is there, or any. */
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

// ---- where the sound comes from -------------------------------------------------------------------------------------

async function listSources() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const microphones = devices.filter(
    ({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default",
  );
  const named = microphones.filter(({ label }) => label); // they have names once one was allowed
  const options = [
    ["microphone", "The microphone"],
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
  clearTimeout(again);
  if (recording) return;
  const [kind, device] = $("source").value.split(" ");
  if (kind === "file") $("file").click();
  else begin({ kind, device });
}

function begin(choice) {
  dismiss();
  $("latency").textContent = "–";
  recording = new Recording();
  recording.begin(choice);
}

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file && !recording) begin({ kind: "file", file });
  $("file").value = ""; // the same file may be chosen again
});

$("start").addEventListener("click", () => (recording ? recording.stop() : start()));

document.addEventListener("keydown", (event) => {
  const isTaken =
    event.target.closest("button, input, select, [popover]") || event.ctrlKey || event.altKey || event.metaKey;
  if (event.code !== "Space" || event.repeat || isTaken) return;
  event.preventDefault();
  $("start").click();
});

addEventListener("online", () => recording?.hurry());
addEventListener("beforeunload", (event) => recording && !isOverlay && event.preventDefault());

// ---- the screen -----------------------------------------------------------------------------------------------------

let lock; // that keeps it awake

async function stayAwake() {
  if (!recording || document.hidden || lock?.released === false) return;
  lock = await navigator.wakeLock?.request("screen").catch(() => undefined); // it may refuse: low battery, say
  if (!recording) lock?.release();
}

document.addEventListener("visibilitychange", stayAwake); // the lock is gone when the page was hidden

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

// ---- what is kept ---------------------------------------------------------------------------------------------------

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
      () => flash("Not allowed"),
    );
  else download(format);
});

function download(format) {
  const [write, type] = FORMATS[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(finals)], { type: `${type};charset=utf-8` }));
  link.download = `captions.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser has begun to read it by then
}

function flash(text) {
  $("open-save").textContent = text;
  setTimeout(() => ($("open-save").textContent = "Save"), 1500);
}

const CLEAR = ["and begin anew", "again, to be sure"];

$("clear").addEventListener("click", () => {
  if ($("clear-text").textContent === CLEAR[0]) {
    $("clear-text").textContent = CLEAR[1];
    return;
  }
  $("save").hidePopover();
  finals = [];
  captions.clear();
  if (recording) return; // its times go on
  seconds = 0;
  $("elapsed").textContent = time(0);
  $("empty").hidden = false;
});

$("save").addEventListener("toggle", () => ($("clear-text").textContent = CLEAR[0]));

function stored(storage, name) {
  try {
    return globalThis[storage].getItem(`speechbridge.${name}`);
  } catch {
    return null; // no storage is allowed here
  }
}

function store(storage, name, value) {
  try {
    globalThis[storage].setItem(`speechbridge.${name}`, value);
  } catch {
    // The same: it holds for this visit only.
  }
}

await listSources();
if (!isSecureContext) notify(problem("insecure", location));
else if (!globalThis.AudioWorkletNode) notify(problem("no-worklet"));
if (isOverlay) {
  document.addEventListener("click", ({ target }) => target.closest("#notice") || start());
  start();
}
