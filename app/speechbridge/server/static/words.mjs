// The texts of the page: states, problems and close codes, each with what to do about it. Pure.

/** Something that keeps the page from capturing sound. Its message is a key of `PROBLEMS`. */
export class Problem extends Error {}

const PROBLEMS = {
  insecure: ({ host, port }) => ({
    title: "The browser blocks microphones at this address",
    text:
      `Microphones need https or localhost. Open https://${host} if the service has https; on the machine that runs the ` +
      `service, open http://localhost:${port}.`,
  }),
  "no-worklet": () => ({
    title: "This browser is too old for live audio",
    text: "It has no AudioWorklet. Update it, or open this page in a current Chrome, Edge, Firefox or Safari.",
  }),
  denied: () => ({
    title: "The microphone is blocked",
    text: "Click the microphone or lock icon beside the address, allow the microphone, and try again. If it is allowed there, check the privacy settings of your system.",
    action: "again",
  }),
  "no-microphone": () => ({
    title: "No microphone found",
    text: "Plug one in and try again. If you chose another one before, select it under “Source”.",
    action: "again",
  }),
  busy: () => ({
    title: "The microphone cannot be opened",
    text: "Another application may be using it. Close that application or select another microphone, and try again.",
    action: "again",
  }),
  unplugged: () => ({
    title: "The microphone was disconnected",
    text: "It was unplugged, or its permission was withdrawn. Everything up to then is captioned. Plug it in or select another one, and start again: the captions continue below.",
    action: "again",
  }),
  interrupted: () => ({
    title: "Another application has taken the audio",
    text: "This may be a call. Nothing is captured until that application releases the audio; anything said meanwhile is lost. If the audio does not return by itself, resume.",
    action: "resume",
  }),
  silent: () => ({
    title: "No sound",
    text: "The microphone sends silence. Check whether it is muted, on the device or in the system settings. Or stop, and select another one under “Source”.",
  }),
  gesture: () => ({
    title: "Click to start",
    text: "The browser allows audio only after a click or a key press.",
    action: "again",
  }),
  "no-output": () => ({
    title: "No audio output found",
    text: "This browser processes audio only if there is an output device, even though captions are silent. Connect headphones or speakers, or turn on the system’s audio output, and try again.",
    action: "again",
  }),
  unreachable: () => ({
    title: "The service does not respond",
    text: "Part of this page could not be loaded from it. Check your network connection and try again.",
    action: "again",
  }),
  "not-shared": () => ({
    title: "No tab was shared",
    text: "Select a tab in the browser’s dialog, and share its audio too.",
    action: "again",
  }),
  "no-tab-sound": () => ({
    title: "The tab was shared without its audio",
    text: "Try again, select a tab, and tick “Also share tab audio”.",
    action: "again",
  }),
  "no-tab-sharing": () => ({
    title: "This browser cannot share a tab’s audio",
    text: "Firefox and Safari cannot, and no browser on a phone can. Open this page in Chrome or Edge on a computer.",
  }),
  "unreadable-file": () => ({
    title: "This file cannot be played",
    text: "The browser does not support its format, or it contains no audio. WAV, MP3, M4A and Ogg work almost everywhere.",
    action: "again",
  }),
  away: () => ({
    title: "The service cannot be reached",
    text: "The page keeps trying and buffers the last minute of audio. Check your network connection.",
  }),
  lost: ({ seconds }) => ({
    title: `${seconds.toFixed(1)} s of audio were lost`,
    text: "The service could not be reached for longer than this page can buffer. Everything before and after is captioned.",
  }),
  kept: ({ seconds }) => ({
    title: `${seconds.toFixed(1)} s of audio are not transcribed yet`,
    text: "They are kept on this device and transcribed as soon as the service can be reached.",
    action: "recover",
  }),
  "nothing-to-read": () => ({
    title: "There is nothing to read here",
    text: "The link is not complete, or its captions were deleted: they stay for an hour after the end. Ask for a new link.",
    action: "again",
  }),
  "not-stored": () => ({
    title: "The captions cannot be stored",
    text: "This device has no space left for them, or its storage was cleared. They stay on this page until you close it: save them.",
  }),
};

/** What to show for a problem: `{ key, title, text, action }`. */
export function problem(key, facts = {}) {
  return { key, ...PROBLEMS[key](facts) };
}

const CLOSES = {
  0: ["The service stopped responding", "The last words may be missing. Start again: the captions continue below."],
  1000: ["The service ended the captions", "Start again: the captions continue below."],
  1007: ["The service did not understand this page", "Reload the page: it may be older than the service."],
  1008: [
    "The service rejected this page’s traffic",
    "Reload the page. If this happens again, tell the operator of the service.",
  ],
  1009: [
    "A message was too large for the service",
    "Reload the page. If this happens again, tell the operator of the service.",
  ],
  1011: [
    "The speech service failed",
    "Try again. If it fails again, tell the operator of the service: its log has the cause.",
  ],
  1014: ["The speech service cannot be reached", "Try again in a moment."],
  4001: [
    "The speech service rejected this service",
    "Its token is wrong or has expired. The operator must replace it.",
  ],
  4002: ["The service rejected the request", "See the reason below, and reload the page."],
  4003: ["The speech service’s account has no credits", "The operator of the service must add some."],
  4008: ["This page was too slow", "It did not receive the captions in time. Close other tabs and start again."],
  4009: ["The captions continue elsewhere", "Another connection has taken them over. Start again to have them here."],
  4010: ["The service is shutting down", "It should be back shortly. Try again in a moment."],
  4013: ["No recognizer is free", "Try again in a moment."],
  4029: ["The service is full", "Try again when another session has ended."],
  4030: ["Too many sessions", "Your key or address has reached its limit. Stop another session and try again."],
  4031: ["Too many attempts", "Wait a minute and try again."],
  4032: [
    "Too much audio at once",
    "The service limits bytes per second, and this page had to send more. Start again: the captions continue below.",
  ],
  4033: [
    "Too many messages at once",
    "The service limits messages per second, and this page had to send more. Start again: the captions continue below.",
  ],
  4034: [
    "The time limit was reached",
    "The service limits how long a stream may last. Start again: the captions continue below.",
  ],
  4035: ["The connection was idle for too long", "The service closed it. Start again: the captions continue below."],
  4036: [
    "This address may not use the service",
    "Open the page at the service’s own address, or ask the operator to allow this origin.",
  ],
};

const NO_KEY = ["An API key is required", "Ask the operator of the service for one."];
const WRONG_KEY = ["This API key is not accepted", "Check it for typing errors, or ask the operator for a new one."];
const NOT_RETRIED = [1007, 1008, 1009, 4002, 4036]; // the same request would be rejected again

/**
 * What to show for the close that ended a stream: `{ key, title, text, reason, action }`.
 *
 * `unsent` is the seconds of audio that the service does not have, `kept` those that this device keeps for later.
 * `hasKey` says whether a key was sent, `hasBegun` whether the service had accepted the stream before.
 */
export function closing({ code, reason }, { unsent = 0, kept = 0, hasKey = false, hasBegun = false } = {}) {
  const isKey = code === 4001 && !hasBegun;
  const [title, cure] = isKey
    ? hasKey
      ? WRONG_KEY
      : NO_KEY
    : (CLOSES[code] ?? [`The connection ended (${code})`, "Try again."]);
  const loss = kept >= 1 ? `${kept.toFixed(1)} s of audio are kept on this device and transcribed later. ` : "";
  const gap = !kept && unsent >= 1 ? `${unsent.toFixed(1)} s of audio were not transcribed. ` : "";
  const action = isKey ? "key" : NOT_RETRIED.includes(code) ? undefined : "again";
  return { key: `${code}`, title, text: `${loss}${gap}${cure}`, reason, action };
}

/** The name of each state. */
export const STATES = {
  ready: "Ready",
  asking: "Waiting for permission",
  connecting: "Connecting",
  live: "Live",
  behind: "Catching up",
  silent: "Live, no sound",
  paused: "Paused",
  interrupted: "Interrupted",
  queued: "Waiting",
  reconnecting: "Reconnecting",
  ending: "Finishing",
  waiting: "Waiting for the service",
  recovering: "Transcribing earlier audio",
  retrying: "Waiting for the service",
  ended: "Finished",
  stopped: "Stopped",
};

/** The details of a state: the place in the queue, and in seconds: how late captions are, audio buffered, audio lost. */
export function details({ behind = 0, held = 0, lost = 0, queued }) {
  const facts = [
    queued && `place ${queued.place}, about ${queued.wait_seconds} s`,
    behind >= 1 && !held && `${Math.round(behind)} s behind`,
    held >= 0.1 && `${held.toFixed(1)} s buffered`,
    lost && `${lost.toFixed(1)} s lost`,
  ];
  return facts.filter(Boolean).join(", ");
}

/** Time as people read it: 0:07, 12:34, 1:02:03. */
export function time(seconds) {
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const tail = `${h ? String(m).padStart(2, "0") : m}:${String(s).padStart(2, "0")}`;
  return h ? `${h}:${tail}` : tail;
}
