// A transcript as plain text, SubRip, WebVTT or Rev.ai's JSON. Pure. Mirrors speechbridge/protocol/captions.py, which
// explains the rules; a test compares the two.

import { Speakers, speakerOf, turns } from "./speakers.mjs";

const LINE = 42; // columns in a line
const LINES = 2; // in a cue
const LONGEST = 7000; // ms that a cue is shown
const SHORTEST = 833;
const READING = 50; // ms per character, for words without times
const SILENCE = 1000; // ms without speech end a cue
const SENTENCE = /[.?!。？！]["”’')\]]*$/u;
const PAUSE_COLUMN = 40; // ms of a pause that are worth a column of unevenness
const OPENING = /^["“‘'([]*/u;
// Words whose full stop does not end a sentence; the same as in protocol/abbreviations.py.
const ABBREVIATION =
  /^(?:mr|mrs|ms|dr|st|jr|sr|prof|gen|capt|sgt|lt|vs|etc|inc|ltd|dept|[a-hj-z]|[a-z](?:\.[a-z])+)\.$/i;
const CLAUSE = /[,;:、，]$/u;
const LATEST = 1e9; // seconds: later times, beyond 30 years, are ignored

const UNPRINTABLE = /[\x00-\x1f\x7f-\x9f\u2028\u2029]|\p{Surrogate}/gu;
const COMBINING = /\p{M}/u;
// Characters that are two columns wide: Chinese, Japanese, Korean, fullwidth forms, emoji. From Markus Kuhn's wcwidth.
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;

/** A partial or final as one line. A final's punctuation includes the spaces; a partial's words have none. */
export function line({ type, elements }) {
  return printable(elements.map(({ value }) => value).join(type === "partial" ? " " : ""))
    .split(/\s+/u)
    .filter(Boolean)
    .join(" ");
}

export function toText(finals) {
  const speakers = new Speakers();
  let before;
  const lines = [];
  for (const turn of finals.flatMap(turns)) {
    const text = line(turn);
    if (!text) continue;
    const name = turn.speaker === before ? undefined : speakers.nameOf(turn.speaker);
    before = turn.speaker;
    lines.push(`${name ? `${name}: ` : ""}${text}\n`);
  }
  return lines.join("");
}

export function toSrt(finals) {
  return cues(finals)
    .map(({ start, end, lines }, at) => `${at + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${lines.join("\n")}\n`)
    .join("\n");
}

export function toVtt(finals) {
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const speakers = new Speakers();
  const blocks = cues(finals).map(({ start, end, lines, speaker }) => {
    const name = speakers.nameOf(speaker);
    const voice = name ? `<v ${escaped(name)}>` : "";
    return `${clock(start, ".")} --> ${clock(end, ".")}\n${voice}${escaped(lines.join("\n"))}\n`;
  });
  return ["WEBVTT\n", ...blocks].join("\n");
}

export function toJson(finals) {
  const speakers = new Speakers();
  const monologues = finals
    .flatMap(turns)
    .filter(({ elements }) => elements.length)
    .map(({ elements, speaker }) => ({
      speaker: speaker === undefined ? 0 : speakers.numberOf(speaker),
      elements: elements.map(({ speaker: _, ...element }) => ({ ...element, value: printable(element.value) })),
    }));
  return `${JSON.stringify({ monologues })}\n`;
}

/** Split finals into cues, `{ start, end, lines, speaker }`, in ms: in order, without overlap, each of at least 1 ms. */
export function cues(finals) {
  const found = [];
  let now = 0;
  for (const turn of finals.flatMap(turns)) {
    for (const run of split(words(turn, now))) {
      const start = Math.max(now, run[0].start);
      now = Math.max(start + 1, Math.min(run.at(-1).end, start + LONGEST));
      found.push({ start, end: now, lines: lines(run), speaker: turn.speaker });
    }
  }
  found.forEach((cue, at) => {
    const next = found[at + 1]?.start ?? now + SHORTEST;
    cue.end = Math.max(cue.end, Math.min(cue.start + SHORTEST, next));
  });
  return found;
}

/** The words of a partial or final, `{ element, from, to }`: in `line` each begins at `from` and ends before `to`. */
export function places(message) {
  const text = line(message);
  let at = 0;
  const placed = message.elements.map((element) => {
    while (text[at] === " ") at++;
    const from = at;
    for (let letters = printable(element.value).replace(/\s/gu, "").length; letters; at++)
      if (text[at] !== " ") letters--;
    return { element, from, to: at };
  });
  return placed.filter(({ element: { type } }) => type === "text");
}

/** Parse a partial or final, as tolerantly as protocol/messages.py does. */
export function hypothesis(message) {
  const { type, ts, end_ts, elements } = message;
  const known = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);
  const listed = Array.isArray(elements) ? elements.filter((element) => element && typeof element === "object") : [];
  return {
    type,
    ts: known(ts) ?? 0,
    end_ts: known(end_ts) ?? 0,
    elements: listed.map((element) => ({
      type: String(element.type ?? "unknown"),
      value: String(element.value ?? ""),
      ts: known(element.ts),
      end_ts: known(element.end_ts),
      confidence: known(element.confidence),
      ...spokenBy(speakerOf(element) ?? speakerOf(message)),
    })),
  };
}

function spokenBy(speaker) {
  return speaker === undefined ? {} : { speaker };
}

/** A partial turned into a final: with an element for each space. */
export function asFinal(partial) {
  const spaced = partial.elements.flatMap((element) => [{ type: "punct", value: " " }, element]).slice(1);
  return { ...partial, type: "final", elements: spaced };
}

function printable(text) {
  return text.replace(UNPRINTABLE, " ");
}

function words(final, now) {
  const lengthOf = (element) => [...element.value].length;
  const length = final.elements.reduce((sum, element) => sum + lengthOf(element), 0) || 1;
  const timed = final.elements.every(
    ({ type, ts, end_ts }) => type !== "text" || (ms(ts) !== null && ms(end_ts) !== null),
  );
  const begin = Math.max(now, ms(final.ts) ?? 0);
  const duration = Math.max(0, (ms(final.end_ts) ?? 0) - begin) || READING * length;
  const found = [];
  let passed = 0; // of the length
  let space = true;
  for (const element of final.elements) {
    let start = now;
    let end = now;
    if (!timed) {
      start = begin + Math.floor((duration * passed) / length);
      end = begin + Math.floor((duration * (passed + lengthOf(element))) / length);
    } else if (element.type === "text") {
      start = ms(element.ts);
      end = ms(element.end_ts);
    }
    passed += lengthOf(element);
    const value = printable(element.value);
    space ||= /^\s/u.test(value);
    const texts = value.split(/\s+/u).filter(Boolean);
    texts.forEach((text, nth) => {
      const share = Math.max(0, end - start) / texts.length;
      const wordStart = Math.max(now, start + round(share * nth));
      now = Math.max(wordStart, start + round(share * (nth + 1)));
      const before = found.at(-1);
      const apart = space || (element.type === "text" && isWide([...before.text].at(-1)) && isWide([...text][0]));
      if (apart) {
        found.push({ text, spaced: space, start: wordStart, end: now });
      } else {
        before.text += text;
        before.end = now;
      }
      space = nth < texts.length - 1;
    });
    space = value ? /\s$/u.test(value) : space;
  }
  return found;
}

/** Split into runs of words that each fit a cue, in order. */
function split(all) {
  const done = [];
  const pending = all.length ? [all] : [];
  while (pending.length) {
    const run = pending.pop();
    if (run.length === 1 || fits(run)) {
      done.push(run);
    } else {
      let at = 1;
      for (let other = 2; other < run.length; other++) if (worth(run, other) > worth(run, at)) at = other;
      pending.push(run.slice(at), run.slice(0, at));
    }
  }
  return done;
}

function fits(run) {
  if (run.length > LINE * LINES) return false; // avoids the search for lines
  const unbroken = run.every((word, at) => at === 0 || word.start - run[at - 1].end < SILENCE);
  return unbroken && run.at(-1).end - run[0].start <= LONGEST && lines(run) !== null;
}

/** How natural a split before the word `at` is, expressed in ms of silence. */
function worth(run, at) {
  const before = run[at - 1];
  const silence = run[at].start - before.end;
  const imbalance = Math.abs(2 * at - run.length) / run.length; // 0 to 1
  return silence + pause(before.text) - 1000 * imbalance;
}

/** How long a reader pauses after a word, in ms. */
function pause(word) {
  if (SENTENCE.test(word) && !ABBREVIATION.test(word.replace(OPENING, ""))) return 800;
  return CLAUSE.test(word) ? 400 : 0;
}

/** Break a run into one line, or two of about the same length or at a pause; null if two are not enough. */
function lines(run) {
  const whole = oneLine(run);
  if (whole !== null) return [whole];
  let best = null;
  let least = Infinity;
  for (let at = 1; at < run.length; at++) {
    const top = oneLine(run.slice(0, at));
    const bottom = oneLine(run.slice(at));
    if (top === null || bottom === null) continue;
    const unevenness = Math.abs(columns(top) - columns(bottom)) - pause(run[at - 1].text) / PAUSE_COLUMN;
    if (unevenness < least) [best, least] = [[top, bottom], unevenness];
  }
  return best;
}

function oneLine(run) {
  const text = run
    .map((word) => (word.spaced ? ` ${word.text}` : word.text))
    .join("")
    .trimStart();
  return run.length === 1 || columns(text) <= LINE ? text : null;
}

function columns(text) {
  let sum = 0;
  for (const letter of text) if (!COMBINING.test(letter)) sum += isWide(letter) ? 2 : 1;
  return sum;
}

function isWide(letter) {
  return WIDE.test(letter);
}

function ms(seconds) {
  return seconds !== undefined && seconds >= 0 && seconds < LATEST ? round(seconds * 1000) : null;
}

/** Round to the nearest integer, halves to even, as Python does. */
function round(x) {
  const nearest = Math.round(x);
  return nearest - x === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

function clock(time, mark) {
  const digits = (value, count) => String(value).padStart(count, "0");
  const seconds = Math.floor(time / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `${digits(h, 2)}:${digits(m, 2)}:${digits(s, 2)}${mark}${digits(time % 1000, 3)}`;
}
