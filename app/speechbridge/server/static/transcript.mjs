// A transcript: its finals in the order in which they were spoken, and its entry for the list of transcripts. Pure.

import { line } from "./captions.mjs";

const FIRST = 80; // characters of the first final, for the title of a transcript that has none

export class Transcript {
  finals = [];
  seconds; // its length, where the next recording begins
  title;
  #created;
  #first;
  #numbers = new WeakMap(); // in the order of arrival
  #count = 0;

  constructor({ id, title = "", created = Date.now(), seconds = 0, first = "" } = {}) {
    this.id = id ?? Date.now().toString(36) + Math.random().toString(36).slice(2);
    this.title = title;
    this.seconds = seconds;
    this.#created = created;
    this.#first = first;
  }

  /** Add a final after those of its own stream and of earlier ones: a restored stream may be older than others. */
  add(final) {
    const after = this.finals.findLastIndex(({ begin }) => begin <= final.begin);
    this.finals.splice(after + 1, 0, final);
    this.#numbers.set(final, this.#count++);
    this.#first ||= line(final).slice(0, FIRST);
    this.seconds = Math.max(this.seconds, final.end_ts);
  }

  /** A word of a final was corrected. */
  corrected(final) {
    if (final === this.finals[0]) this.#first = line(final).slice(0, FIRST);
  }

  numberOf(final) {
    return this.#numbers.get(final);
  }

  /** How many finals were added. */
  get count() {
    return this.#count;
  }

  /** Its entry in the list of transcripts, which is stored besides its finals. */
  get record() {
    const { id, title, seconds, count } = this;
    return { id, title, seconds, count, created: this.#created, updated: Date.now(), first: this.#first };
  }
}

/** The name of a transcript, given its record. */
export function titleOf({ title, first }) {
  return title || first || "Untitled";
}

/** Text for comparison: without case and accents. Each character stays one, so that positions stay valid. */
function folded(text) {
  return Array.from({ length: text.length }, (_, at) => {
    const [plain = text[at]] = text[at].normalize("NFD");
    return plain.toLowerCase()[0] ?? plain;
  }).join("");
}

const BEFORE = 30; // characters of an excerpt before the match
const AFTER = 90;

/** Where a text contains a query: `{ before, match, after }` for an excerpt; null where it does not. */
export function find(text, query) {
  const at = folded(text).indexOf(folded(query));
  if (at < 0) return null;
  const end = at + query.length;
  const from = at <= BEFORE ? 0 : text.indexOf(" ", at - BEFORE) + 1 || at;
  const start = Math.min(from, at);
  return {
    before: (start ? "… " : "") + text.slice(start, at),
    match: text.slice(at, end),
    after: text.slice(end, end + AFTER) + (end + AFTER < text.length ? " …" : ""),
  };
}
