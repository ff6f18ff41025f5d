// Any rate to 16 kHz, by a polyphase low-pass. Pure.

export const RATE = 16000; // samples a second, after

const ATTENUATION = 80; // dB, of what would alias: what 16-bit speech needs, and more than a microphone's noise leaves
const PASS = 0.9; // of the lower Nyquist frequency is left as it is: 7.2 kHz; consonants end lower

/** A stream of samples at `rate` becomes one at 16 kHz, about 3 ms later. At 16 kHz they pass untouched. */
export class Resampler {
  #up;
  #down;
  #taps; // a phase
  #phases; // coefficients, phase after phase, each backwards
  #heard; // samples that later ones are still filtered with
  #kept;
  #next = 0; // output sample, in steps of 1 / (rate * up), from the first sample after those kept

  constructor(rate) {
    const divisor = greatestCommonDivisor(rate, RATE);
    this.#up = RATE / divisor;
    this.#down = rate / divisor;
    this.#phases = rate === RATE ? Float32Array.of(1) : lowPass(rate, this.#up);
    this.#taps = this.#phases.length / this.#up;
    this.#kept = this.#taps - 1;
    this.#heard = new Float32Array(this.#kept);
  }

  /** Take samples of any number (-1 to 1); return those that can be told now. */
  process(samples) {
    if (this.#heard.length < this.#kept + samples.length) {
      const larger = new Float32Array(this.#kept + samples.length);
      larger.set(this.#heard);
      this.#heard = larger;
    }
    this.#heard.set(samples, this.#kept);
    const count = Math.max(0, Math.ceil((samples.length * this.#up - this.#next) / this.#down));
    const resampled = new Float32Array(count);
    for (let n = 0; n < count; n++, this.#next += this.#down) {
      const first = Math.floor(this.#next / this.#up);
      const phase = (this.#next % this.#up) * this.#taps;
      let sum = 0;
      for (let tap = 0; tap < this.#taps; tap++) sum += this.#heard[first + tap] * this.#phases[phase + tap];
      resampled[n] = sum;
    }
    this.#next -= samples.length * this.#up;
    this.#heard.copyWithin(0, samples.length, samples.length + this.#kept);
    return resampled;
  }
}

/** Write samples as 16-bit integers; what is too loud is clipped. */
export function toInt16(samples) {
  return Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
}

/** A windowed sinc (Kaiser's window and his formulas for its shape and length), cut into `up` phases. */
function lowPass(rate, up) {
  const nyquist = Math.min(rate, RATE) / 2;
  const transition = ((1 - PASS) * nyquist) / rate; // in cycles a sample
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

/** The modified Bessel function of order 0, by its series. */
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
