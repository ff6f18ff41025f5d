// From the moment a word was spoken to its appearance. Pure. Times are milliseconds of `performance.now()`.

const FRAMES = 1200; // two minutes of frames of 100 ms: no word comes later
const NEAR = 100; // frames from which the two clocks are read: 10 s, in which they do not drift apart
const SHOWN = 9; // words of which the median is the figure

/** When each sample was captured. The audio clock counts samples; its place in our time is told by the frames. */
export class CaptureClock {
  #frames = []; // { end: seconds of audio, taken: when its last sample was }
  #delays = [];
  #delay;

  /** `delay` is what the microphone takes, in ms, before the audio clock sees it. */
  constructor(delay = 0) {
    this.#delay = delay;
  }

  /** A frame that ends at `end` seconds of audio was taken at `time` (s, the audio clock's) and has come by `now`. */
  frame(end, time, now) {
    this.#delays.push(now - time * 1000);
    if (this.#delays.length > NEAR) this.#delays.shift();
    // The frame that was told with the least delay tells best what the clocks are apart.
    this.#frames.push({ end, taken: time * 1000 + Math.min(...this.#delays) - this.#delay });
    if (this.#frames.length > FRAMES) this.#frames.shift();
  }

  /** When the audio's second `second` was captured; undefined if that is not known any more, or not yet. */
  at(second) {
    const frame = this.#frames.find(({ end }) => end >= second - 1e-6);
    const isKnown = frame && second > this.#frames[0].end - 0.1;
    return isKnown ? frame.taken - (frame.end - second) * 1000 : undefined;
  }
}

/** The latency of words as they appear for the first time, in a partial or a final. */
export class Latency {
  #clock;
  #known = 0; // words of the utterance that have appeared
  #recent = [];

  constructor(clock) {
    this.#clock = clock;
  }

  /** A partial or final appeared. Returns the latency of its newest word, if there is a new one and its time is known. */
  shown(heard, now) {
    const words = heard.elements.filter(({ type }) => type === "text");
    const isNew = words.length > this.#known;
    this.#known = heard.type === "final" ? 0 : Math.max(this.#known, words.length);
    const spoken = isNew ? this.#clock.at(words.at(-1).end_ts ?? heard.end_ts) : undefined;
    if (spoken === undefined) return undefined;
    this.#recent.push(now - spoken);
    if (this.#recent.length > SHOWN) this.#recent.shift();
    return now - spoken;
  }

  /** The median of the last words, in ms; undefined before the first. */
  get median() {
    return this.#recent.toSorted((a, b) => a - b)[Math.floor(this.#recent.length / 2)];
  }
}
