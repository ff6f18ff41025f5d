// The page: starts and stops recordings, shows their captions, and stores them.

import { resize } from "./appearance.mjs";
import { copy, download } from "./exporting.mjs";
import { History } from "./history.mjs";
import { listen } from "./keyboard.mjs";
import { language, listLanguages } from "./languages.mjs";
import { Library, hold } from "./library.mjs";
import { Meter } from "./meter.mjs";
import { Notices } from "./notices.mjs";
import { Fading, applyOptions, keyIn, overlayOptions, withoutKey } from "./overlay.mjs";
import { PlayerBar } from "./player.mjs";
import { Recording } from "./recording.mjs";
import { Recovery } from "./recovery.mjs";
import { remember, remembered } from "./remembered.mjs";
import { allowSleep, stayAwake, toggleFullScreen } from "./screen.mjs";
import { Sharing } from "./sharing.mjs";
import { listSources, source } from "./sources.mjs";
import { stashOnLeaving } from "./stash.mjs";
import { BYTES_PER_SECOND } from "./stream.mjs";
import { Transcript } from "./transcript.mjs";
import { Captions } from "./view.mjs";
import { STATES, closing, details, problem, time } from "./words.mjs";

const RETRY = 15_000; // ms after which an overlay, which nobody operates, tries again
const RECOVER = 30_000; // ms after which the page tries again to transcribe audio that it kept
const KEPT = 0.5; // seconds of audio kept for later; less does not get a notice
const FLASH = 2_500; // ms that a button shows what it did
const TRANSIENT = ["silent", "away", "lost"]; // notices that an overlay does not show
const PREPARED = 4_000; // ms that Start waits for the stored transcripts to open
const LOCKED = 1_000; // ms that a reloaded page waits for the lock that it held before

const root = document.documentElement;
const isOverlay = root.dataset.view === "overlay";
const options = overlayOptions(location.search);
const $ = (id) => document.getElementById(id);
const service = new URL(".", location.href).href.replace(/^http/, "ws").replace(/\/$/, "");

const opening = isOverlay ? Promise.resolve(null) : Library.open();
let library = null; // until it is open
let recovery = null;
const captions = new Captions({ isOverlay, corrected: (final) => library?.correct(transcript, final).catch(() => {}) });
const fading = new Fading(root, isOverlay ? options.fade : 0);
const meter = new Meter();
const player = new PlayerBar();
const sharing = new Sharing();
let transcript = new Transcript(); // the one on the page
let release = () => {}; // releases the lock of `transcript`
let recording = null; // the running one
let journal; // of the current recording
let recovering = { seconds: 0, isLive: false }; // earlier audio that is being transcribed
let idle = "ready"; // the state when no recording runs

// ---- state ----------------------------------------------------------------------------------------------------------

function show(state) {
  const isRecovering = !recording && recovering.seconds > 0;
  const name = isRecovering ? (recovering.isLive ? "recovering" : "retrying") : state.name;
  root.dataset.state = name;
  root.toggleAttribute("data-behind", state.behind > 0);
  const title = state.behind ? STATES.behind : STATES[name];
  if ($("state").textContent !== title) $("state").textContent = title; // screen readers announce a change
  $("details").textContent = details(isRecovering ? { held: recovering.seconds } : state);
  $("latency").textContent = Number.isFinite(state.latency) ? `${state.latency.toFixed(1)} s` : "–";
  const stop = { ending: "Finish now", waiting: "Stop waiting" }[name] ?? "Stop";
  $("start-text").textContent = recording ? stop : "Start";
  $("source").disabled = $("language").disabled = recording !== null;
  captions.isListening = Boolean(state.isListening);
  document.title = `${recording ? "● " : ""}Captions · speechbridge`;
}

async function begin(choice) {
  notices.hide();
  const id = new Transcript().id;
  const { seconds } = transcript;
  const spoken = isOverlay ? options.language : language();
  journal = library?.journal(transcript, { id, seconds, language: spoken }, () => notices.show(problem("not-stored")));
  const started = (recording = new Recording(service, {
    seconds,
    language: spoken,
    accessKey: accessKey(),
    journal,
    share: sharing.isOn,
    on: {
      shared: (token) => sharing.shared(token),
      state: (state) => recording === started && show(state),
      notify: (notice) => notify(notice),
      mention: (notice) => isOverlay || notices.mention(notice),
      withdraw: (key) => notices.hide(key),
      player: (file) => recording === started && player.show(file),
      frame(levels, until) {
        transcript.seconds = until;
        meter.push(levels);
        $("elapsed").textContent = time(until);
      },
      message(message) {
        captions.show(message);
        if (message.type === "final" && !isOverlay) transcript.add(message);
        fading.restart();
      },
      over(name) {
        recording = null;
        sharing.shared(null);
        idle = name;
        allowSleep();
        meter.clear();
        player.show(undefined);
        show({ name });
        setTimeout(recover, RECOVER);
      },
    },
  }));
  if (await started.begin(choice)) {
    player.show(started.player);
    stayAwake(() => recording !== null);
    listSources(recording !== null);
    recover();
  }
}

// ---- notices --------------------------------------------------------------------------------------------------------

let retry; // timer of an overlay
let afterKey = start; // called when the user has entered the key

const notices = new Notices({
  again: () => start(),
  resume: () => recording?.resume(),
  recover: () => recover(),
  key(key, isKept) {
    remember("key", key, "sessionStorage");
    if (isKept) remember("key", key);
    afterKey();
  },
});

function notify(notice, again = start) {
  if (notice.action === "key") {
    remember("key", null, "sessionStorage"); // the key was missing or wrong
    remember("key", null);
    afterKey = again;
  }
  if (!isOverlay) {
    notices.show(notice);
    return;
  }
  if (TRANSIENT.includes(notice.key)) return;
  const isKey = notice.action === "key"; // nobody types on an overlay, and no viewer should see the form
  const text = "Add #key= and an API key to the address of this overlay.";
  notices.show(isKey ? { ...notice, text, action: undefined } : notice);
  if (notice.action === "again") retry = setTimeout(start, RETRY);
}

/** The key that the user typed in this tab, or one that this device remembers. */
function accessKey() {
  return remembered("key", "sessionStorage") ?? remembered("key") ?? "";
}

// ---- start and stop -------------------------------------------------------------------------------------------------

async function start() {
  clearTimeout(retry);
  await Promise.race([Promise.all([prepared, languages]), wait(PREPARED)]); // the first key press may come early
  if (recording) return;
  const choice = source();
  if (choice.kind === "file") $("file").click();
  else begin(choice);
}

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file && !recording) begin({ kind: "file", file });
  $("file").value = ""; // so that the same file can be chosen again
});

$("start").addEventListener("click", () => (recording ? recording.stop() : start()));
navigator.mediaDevices?.addEventListener("devicechange", () => listSources(recording !== null));
addEventListener("beforeunload", (event) => recording && !isOverlay && event.preventDefault());
stashOnLeaving(() => recording && journal);
addEventListener("online", () => {
  recording?.retryNow();
  recovery?.retryNow();
  recover();
});

// ---- the transcript -------------------------------------------------------------------------------------------------

/** Show another transcript, whose lock this tab holds. */
function enter(next, releaseNext) {
  release();
  [transcript, release] = [next, releaseNext];
  remember("transcript", transcript.id, "sessionStorage");
  captions.open(transcript.finals);
  $("elapsed").textContent = time(transcript.seconds);
}

/** Begin a new transcript. A running recording continues in it, with the same timestamps. */
async function beginNew() {
  const next = new Transcript({ seconds: recording ? transcript.seconds : 0 });
  if (journal && recording) journal.transcript = next;
  enter(next, () => {}); // at once: a recording may begin before the lock is acquired
  release = await claim(next.id);
}

async function open(id) {
  if (id === transcript.id) return;
  const releaseNext = await claim(id);
  const next = releaseNext && (await library.load(id));
  if (next && !recording) {
    enter(next, releaseNext);
  } else {
    releaseNext?.();
    flash(recording ? "Stop first" : "Open in another tab");
  }
}

function claim(id) {
  return hold(`transcript.${id}`);
}

/** Whether a transcript may be deleted: not while it is being recorded or another tab shows it. */
async function canRemove(id) {
  if (id === transcript.id) return !recording;
  const releaseIt = await claim(id);
  releaseIt?.();
  return releaseIt !== null;
}

/** The second of the transcript at which the audio of an interrupted stream ends. */
async function endOf(record) {
  const { end } = await library.audio(record);
  return record.seconds + end / BYTES_PER_SECOND;
}

/** After a reload, show the same transcript again; after a crash, the transcript of the interrupted recording. */
async function reopen() {
  const before = remembered("transcript", "sessionStorage");
  const interrupted = await library.interrupted();
  for (const id of new Set([before, ...interrupted.map((record) => record.transcript)])) {
    let releaseFound = id && (await claim(id));
    for (let waited = 0; id && id === before && !releaseFound && waited < LOCKED; waited += 100) {
      await wait(100); // the page before the reload may still hold it
      releaseFound = await claim(id);
    }
    if (!releaseFound) continue;
    const found = (await library.load(id)) ?? new Transcript({ id });
    for (const record of interrupted) {
      if (record.transcript === id) found.seconds = Math.max(found.seconds, await endOf(record));
    }
    if (found.seconds) {
      enter(found, releaseFound);
      return;
    }
    releaseFound();
  }
  remember("transcript", transcript.id, "sessionStorage");
  release = await claim(transcript.id);
}

// ---- audio kept for later -------------------------------------------------------------------------------------------

const RECOVERED = {
  message(message, { id }) {
    if (id === transcript.id && (message.type === "final" || !recording)) captions.show(message);
  },
  state(seconds, isLive) {
    recovering = { seconds, isLive };
    if (!recording) show({ name: idle });
  },
  over(close, kept, seconds) {
    if (kept < KEPT) {
      if (close.code !== 1000) notices.mention(closing(close, { unsent: seconds }));
      return;
    }
    if (close.code === 4001) notify(closing(close, { kept, hasKey: accessKey() !== "" }), recover);
    else if (!recording) notices.mention(problem("kept", { seconds: kept }));
    setTimeout(recover, RECOVER);
  },
};

function recover() {
  recovery?.run(transcript, { running: recording ? journal?.id : undefined, accessKey: accessKey() });
}

// ---- panels ---------------------------------------------------------------------------------------------------------

$("save").addEventListener("click", ({ target }) => {
  const format = target.closest("[data-save]")?.dataset.save;
  if (!format) return;
  $("save").hidePopover();
  const { finals, title } = transcript;
  if (!finals.length) {
    flash("Nothing to save");
  } else if (format === "copy") {
    copy(finals).then(
      () => flash("Copied"),
      () => flash("Blocked"),
    );
  } else {
    download(title || "captions", format, finals);
  }
});

let flashing;

function flash(text) {
  clearTimeout(flashing);
  $("save-text").textContent = text;
  $("save-text").dataset.flash = "";
  flashing = setTimeout(() => {
    $("save-text").textContent = "Save";
    delete $("save-text").dataset.flash;
  }, FLASH);
}

const dialog = new History(opening, {
  open,
  begin: beginNew,
  current: () => transcript.id,
  isRecording: () => recording !== null,
  canRemove,
  renamed: (id, title) => id === transcript.id && (transcript.title = title),
  removed: (id) => id === transcript.id && beginNew(),
});

for (const each of document.querySelectorAll("dialog")) {
  each.querySelector(".close").addEventListener("click", () => each.close());
  each.addEventListener("click", ({ target }) => target === each && each.close()); // a click outside the dialog
}
$("open-help").addEventListener("click", () => $("help").showModal());
$("full-screen").addEventListener("click", toggleFullScreen);

listen({
  Space: () => $("start").click(),
  f: toggleFullScreen,
  t: () => $("text").togglePopover(),
  s: () => $("save").togglePopover(),
  h: () => dialog.show(),
  n: beginNew,
  c: () => captions.correct(),
  p: () => player.toggle(),
  "?": () => $("help").showModal(),
  "+": () => resize(+1),
  "=": () => resize(+1),
  "-": () => resize(-1),
  arrowleft: () => player.move(-1),
  arrowright: () => player.move(+1),
});

function wait(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

// ---- begin ----------------------------------------------------------------------------------------------------------

if (keyIn(location.hash)) {
  remember("key", keyIn(location.hash));
  remember("key", null, "sessionStorage");
  globalThis.history.replaceState(null, "", location.pathname + location.search + withoutKey(location.hash));
}
const prepared = prepare();
const languages = isOverlay ? null : listLanguages();

async function prepare() {
  if (isOverlay) await listSources(false, options.source);
  else listSources(false);
  library = await opening;
  if (!library || recording) return;
  try {
    await reopen();
  } catch {
    library = null; // the stored transcripts cannot be read: continue without them
    return;
  }
  recovery = new Recovery(service, library, RECOVERED);
  recover();
}

if (!isSecureContext) notify(problem("insecure", location));
else if (!globalThis.AudioWorkletNode) notify(problem("no-worklet"));
if (isOverlay) {
  applyOptions(root, options);
  document.addEventListener("click", ({ target }) => target.closest("#notice") || start());
  start();
} else {
  navigator.serviceWorker?.register("static/offline.js", { scope: "./" }).catch(() => {}); // online, none is needed
}
