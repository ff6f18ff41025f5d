// The time from when a word was spoken to when it appears. Pure. Times are milliseconds of `performance.now()`.

const FRAMES = 1200; // two minutes of 100 ms frames: words never arrive later
const NEAR = 100; // frames used to compare the two clocks: 10 s, short enough to ignore drift
const SHOWN = 9; // newest words; the page shows their median
const STALE = 10_000; // ms without a new word after which no latency is shown
const BEHIND = 3_000; // ms of latency, or of audio that the service does not have; with more, captions are late
const RECENT = 4_000; // ms for which the latency of the newest word counts as that of the captions

/** When each sample was captured. The audio clock counts samples; the arrival of frames maps it to our clock. */
export class CaptureClock {
  #frames = []; // { end: seconds of audio, taken: when its last sample was }
  #delays = [];
  #delay;

  /** `delay` is the time in ms that a sound needs to reach the audio clock through the microphone. */
  constructor(delay = 0) {
    this.#delay = delay;
  }

  /** A frame ends at `end` seconds of audio. It was complete at `time` (s, audio clock) and arrived at `now`. */
  frame(end, time, now) {
    this.#delays.push(now - time * 1000);
    if (this.#delays.length > NEAR) this.#delays.shift();
    // The frame with the smallest delay gives the best estimate of the offset between the clocks.
    this.#frames.push({ end, taken: time * 1000 + Math.min(...this.#delays) - this.#delay });
    if (this.#frames.length > FRAMES) this.#frames.shift();
  }

  /** When the audio at `second` was captured; undefined if its frame was dropped or has not arrived. */
  at(second) {
    const frame = this.#frames.find(({ end }) => end >= second - 1e-6);
    const isKnown = frame && second > this.#frames[0].end - 0.1;
    return isKnown ? frame.taken - (frame.end - second) * 1000 : undefined;
  }
}

/** The latency of words, measured when they first appear in a partial or a final. */
export class Latency {
  #clock;
  #known = 0; // words of this utterance that have appeared
  #recent = [];
  #newest = { latency: 0, at: -Infinity };

  constructor(clock) {
    this.#clock = clock;
  }

  /** A partial or final appeared. Returns the latency of its newest word, if there is one and its time is known. */
  shown(message, now) {
    const words = message.elements.filter(({ type }) => type === "text");
    const added = words.slice(this.#known);
    this.#known = message.type === "final" ? 0 : Math.max(this.#known, words.length);
    let newest;
    for (const { end_ts = message.end_ts } of added) {
      const spoken = this.#clock.at(end_ts);
      if (spoken === undefined) continue;
      newest = now - spoken;
      this.#recent.push(newest);
      if (this.#recent.length > SHOWN) this.#recent.shift();
      this.#newest = { latency: newest, at: now };
    }
    return newest;
  }

  /** The connection was lost: earlier words tell nothing about later ones. */
  reset() {
    this.#recent = [];
  }

  /** The median of the newest words, in ms; undefined if there was none for a while. */
  median(now) {
    if (now - this.#newest.at > STALE) return undefined;
    return this.#recent.toSorted((a, b) => a - b)[Math.floor(this.#recent.length / 2)];
  }

  /** How many ms the captions are late, given how much audio the service does not have yet; 0 if they are on time. */
  behind(held, now) {
    const word = now - this.#newest.at < RECENT ? this.#newest.latency : 0;
    const late = Math.max(held, word);
    return late < BEHIND ? 0 : late;
  }
}
