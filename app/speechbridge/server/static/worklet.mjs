// Runs on the audio thread: turns the device's samples into frames of 100 ms, 16 kHz, 16 bits.

import { RATE, Resampler, toInt16 } from "./resampler.mjs";

const FRAME = RATE / 10;
const BARS = 4; // levels in a frame, for the meter

registerProcessor(
  "frames",
  class extends AudioWorkletProcessor {
    #resampler = new Resampler(sampleRate);
    #frame = new Float32Array(FRAME);
    #filled = 0;
    #ended = false;

    constructor() {
      super();
      this.port.onmessage = () => {
        this.#ended = true; // the only message is "stop": post the last frame, which is shorter
        this.#post(currentTime);
      };
    }

    process([[samples]]) {
      if (this.#ended) return false;
      if (!samples) return true; // the source has not started, or has ended
      for (let resampled = this.#resampler.process(samples); resampled.length;) {
        const part = resampled.subarray(0, FRAME - this.#filled);
        this.#frame.set(part, this.#filled);
        this.#filled += part.length;
        resampled = resampled.subarray(part.length);
        if (this.#filled === FRAME) this.#post(currentTime + samples.length / sampleRate);
      }
      return true;
    }

    /** `time` is when the last sample was captured, on the audio clock. */
    #post(time) {
      const frame = this.#frame.subarray(0, this.#filled);
      const levels = Array.from({ length: BARS }, (_, bar) => peak(frame, bar));
      const samples = toInt16(frame);
      this.#filled = 0;
      this.port.postMessage({ samples, levels, time, last: this.#ended }, [samples.buffer]);
    }
  },
);

function peak(frame, bar) {
  let highest = 0;
  const end = ((bar + 1) * frame.length) / BARS;
  for (let n = Math.floor((bar * frame.length) / BARS); n < end; n++) highest = Math.max(highest, Math.abs(frame[n]));
  return highest;
}
