// What the page says when something is in the way: what it means, and what to do. Pure.

/** What stands between the page and a sound. Its message is a key of `PROBLEMS`. */
export class Problem extends Error {}

const PROBLEMS = {
  insecure: ({ host, port }) => ({
    title: "The browser gives no sound to this address",
    text:
      `Microphones need https or localhost, and this is neither. Open https://${host} if it is served there; on the ` +
      `machine that runs the service, open http://localhost:${port}.`,
  }),
  "no-worklet": () => ({
    title: "This browser is too old for live sound",
    text: "It has no AudioWorklet. Update it, or open this page in a current Chrome, Edge, Firefox or Safari.",
  }),
  denied: () => ({
    title: "The microphone is not allowed",
    text: "Allow it beside the address, where the browser shows a microphone or a lock, and try again. If it is allowed there, look into the system’s privacy settings.",
    action: "again",
  }),
  "no-microphone": () => ({
    title: "There is no microphone",
    text: "Plug one in and try again. If another was chosen before, choose it at “Sound from”.",
    action: "again",
  }),
  busy: () => ({
    title: "The microphone cannot be opened",
    text: "Another application may hold it. Close that, or choose another microphone, and try again.",
    action: "again",
  }),
  unplugged: () => ({
    title: "The microphone is gone",
    text: "It was unplugged, or its permission withdrawn. What was said until then is captioned. Plug it in, or choose another, and start again: the captions go on below.",
    action: "again",
  }),
  interrupted: () => ({
    title: "Something else has taken the sound",
    text: "A call or another application, perhaps. Nothing is heard until it gives the sound back; what is said meanwhile is lost. If it does not come back by itself, resume.",
    action: "resume",
  }),
  silent: () => ({
    title: "Nothing is heard",
    text: "The microphone gives silence. See whether it is muted, on itself or in the system; or stop, and choose another at “Sound from”.",
  }),
  gesture: () => ({
    title: "Click to begin",
    text: "The browser lets a page hear only after a click or a key.",
    action: "again",
  }),
  unreachable: () => ({
    title: "The service does not answer",
    text: "A part of this page could not be loaded from it. See whether you are online, and try again.",
    action: "again",
  }),
  "not-shared": () => ({
    title: "Nothing was shared",
    text: "Choose a tab in the browser’s window, and leave its sound on.",
    action: "again",
  }),
  "no-tab-sound": () => ({
    title: "The tab was shared without its sound",
    text: "Try again, choose a tab, and tick “Also share tab audio”. Firefox and Safari cannot share a tab’s sound.",
    action: "again",
  }),
  "unreadable-file": () => ({
    title: "This file cannot be played",
    text: "The browser does not know its format, or it holds no sound. WAV, MP3, M4A and Ogg do nearly everywhere.",
    action: "again",
  }),
  away: () => ({
    title: "The service is out of reach",
    text: "This page goes on trying, and holds the last minute of sound. See whether you are online.",
  }),
  lost: ({ seconds }) => ({
    title: `${seconds.toFixed(1)} s were not heard`,
    text: "The service was out of reach for longer than this page can hold sound. What came before and after is captioned.",
  }),
};

/** What to show for a problem: `{ key, title, text, action }`. */
export function problem(key, facts = {}) {
  return { key, ...PROBLEMS[key](facts) };
}

const CLOSES = {
  0: ["The service said nothing more", "Its last words may be missing. Start again: the captions go on below."],
  1000: ["The service ended the captions", "Start again: the captions go on below."],
  1007: ["The service did not understand this page", "Reload it: it may be older than the service."],
  1008: ["The service’s rules were broken", "Reload the page. If it happens again, tell whoever runs the service."],
  1009: [
    "A message was too large for the service",
    "Reload the page. If it happens again, tell whoever runs the service.",
  ],
  1011: [
    "The speech service fails",
    "Try again. If it fails again, whoever runs the service finds the cause in its log.",
  ],
  1014: ["The speech service cannot be reached", "Try again in a moment."],
  4001: ["A key is needed", "Whoever runs this service gives it to you. It is kept until this tab is closed."],
  4002: ["The service cannot do what this page asks", "Reload the page. The reason says what is wrong."],
  4003: ["The speech service’s account has no credits", "Whoever runs this service must add some."],
  4008: ["This page was too slow", "It did not take the captions in time. Close other tabs, and start again."],
  4009: ["These captions went on elsewhere", "Another connection has taken them over. Start again to have them here."],
  4010: ["The service is shutting down", "It should be back shortly. Try again in a moment."],
  4013: ["No recognizer is free", "Try again in a moment."],
  4029: ["All places are taken", "Try again when somebody has finished."],
  4030: [
    "You have too many captions running",
    "This key or this address has all it may have. Stop one elsewhere, and try again.",
  ],
  4031: ["Too many tries in a minute", "Wait a minute, and try again."],
  4032: [
    "Too much sound at once",
    "The service allows less in a second than this page had to send. Start again: the captions go on below.",
  ],
  4033: [
    "Too many messages at once",
    "The service allows fewer in a second than this page had to send. Start again: the captions go on below.",
  ],
  4034: ["The time is up", "The service ends captions after a while. Start again: they go on below."],
  4035: [
    "Nothing was said for too long",
    "The service ended the captions to give the place to others. Start again: they go on below.",
  ],
  4036: [
    "This address may not use the service",
    "Open the page where the service itself serves it, or ask whoever runs it to allow this origin.",
  ],
};

/** What to show for the close that ended a stream, with so many seconds of sound unheard: the same, and its `reason`. */
export function closing({ code, reason }, unheard = 0) {
  const [title, cure] = CLOSES[code] ?? [`The connection ended (${code})`, "Try again."];
  const text = unheard < 1 ? cure : `${unheard.toFixed(1)} s were not heard. ${cure}`;
  const action = code === 4001 ? "key" : [1007, 1008, 1009, 4002, 4036].includes(code) ? undefined : "again";
  return { key: `${code}`, title, text, reason, action };
}

/** What each state is called. */
export const STATES = {
  ready: "Ready",
  asking: "Waiting for permission",
  connecting: "Connecting",
  live: "Live",
  silent: "Live, nothing heard",
  interrupted: "Interrupted",
  reconnecting: "Reconnecting",
  ending: "Last words",
  ended: "Ended",
  stopped: "Stopped",
};

/** Time as a person reads it: 0:07, 12:34, 1:02:03. */
export function time(seconds) {
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const tail = `${h ? String(m).padStart(2, "0") : m}:${String(s).padStart(2, "0")}`;
  return h ? `${h}:${tail}` : tail;
}
