// Converts any sample rate to 16 kHz with a polyphase low-pass filter. Pure.

export const RATE = 16000; // output samples a second

const ATTENUATION = 80; // dB, of frequencies that would alias: enough for 16-bit speech, below a microphone's noise
const PASS = 0.9; // of the lower Nyquist frequency passes unchanged: 7.2 kHz, above all consonants

/** Converts a stream of samples from `rate` to 16 kHz, with a delay of about 3 ms. 16 kHz input passes unchanged. */
export class Resampler {
  #up;
  #down;
  #taps; // per phase
  #phases; // coefficients, phase after phase, each reversed
  #history; // input samples that the filter still needs
  #kept;
  #next = 0; // time of the next output sample, in units of 1 / (rate * up), after the kept samples

  constructor(rate) {
    const divisor = greatestCommonDivisor(rate, RATE);
    this.#up = RATE / divisor;
    this.#down = rate / divisor;
    this.#phases = rate === RATE ? Float32Array.of(1) : lowPass(rate, this.#up);
    this.#taps = this.#phases.length / this.#up;
    this.#kept = this.#taps - 1;
    this.#history = new Float32Array(this.#kept);
  }

  /** Take any number of samples (-1 to 1); return the output samples that are complete. */
  process(samples) {
    if (this.#history.length < this.#kept + samples.length) {
      const larger = new Float32Array(this.#kept + samples.length);
      larger.set(this.#history);
      this.#history = larger;
    }
    this.#history.set(samples, this.#kept);
    const count = Math.max(0, Math.ceil((samples.length * this.#up - this.#next) / this.#down));
    const resampled = new Float32Array(count);
    for (let n = 0; n < count; n++, this.#next += this.#down) {
      const first = Math.floor(this.#next / this.#up);
      const phase = (this.#next % this.#up) * this.#taps;
      let sum = 0;
      for (let tap = 0; tap < this.#taps; tap++) sum += this.#history[first + tap] * this.#phases[phase + tap];
      resampled[n] = sum;
    }
    this.#next -= samples.length * this.#up;
    this.#history.copyWithin(0, samples.length, samples.length + this.#kept);
    return resampled;
  }
}

/** Convert samples to 16-bit integers; louder ones are clipped. */
export function toInt16(samples) {
  return Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
}

/** A windowed sinc (Kaiser window, with his formulas for its shape and length), split into `up` phases. */
function lowPass(rate, up) {
  const nyquist = Math.min(rate, RATE) / 2;
  const transition = ((1 - PASS) * nyquist) / rate; // in cycles per sample
  const cutoff = ((1 + PASS) * nyquist) / rate; // twice the middle of the transition
  const beta = 0.1102 * (ATTENUATION - 8.7);
  const taps = Math.ceil((ATTENUATION - 7.95) / (2.285 * 2 * Math.PI * transition));
  const length = taps * up;
  const middle = (length - 1) / 2;
  const phases = new Float32Array(length);
  for (let phase = 0; phase < up; phase++) {
    for (let tap = 0; tap < taps; tap++) {
      const at = phase + tap * up - middle;
      const window = bessel(beta * Math.sqrt(1 - (at / middle) ** 2)) / bessel(beta);
      phases[phase * taps + taps - 1 - tap] = cutoff * sinc((cutoff * at) / up) * window;
    }
  }
  return phases;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The modified Bessel function of order 0, from its power series. */
function bessel(x) {
  let sum = 1;
  for (let k = 1, term = 1; term > sum * 1e-12; k++) {
    term *= (x / 2 / k) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b ? greatestCommonDivisor(b, a % b) : a;
}
