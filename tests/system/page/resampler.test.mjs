import assert from "node:assert/strict";
import { test } from "node:test";

import { RATE, Resampler, toInt16 } from "../../../app/speechbridge/server/static/resampler.mjs";

const RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 192000];

const SECONDS = 0.4;

function tone(frequency, rate, seconds = SECONDS) {
  return Float32Array.from({ length: rate * seconds }, (_, n) => Math.sin((2 * Math.PI * frequency * n) / rate));
}

function resampled(samples, rate, block = 128) {
  const resampler = new Resampler(rate);
  const parts = [];
  for (let at = 0; at < samples.length; at += block) parts.push(...resampler.process(samples.subarray(at, at + block)));
  return Float32Array.from(parts);
}

/** Level in dB; without the first and last tenth of a second, where the tone is switched on and off. */
function level(samples) {
  const middle = samples.subarray(RATE / 10, -RATE / 10);
  return 10 * Math.log10(middle.reduce((sum, sample) => sum + sample * sample, 1e-20) / middle.length / 0.5);
}

/** What is left in the middle when the best fitting sine of that frequency is taken away. */
function without(frequency, samples) {
  const wave = (shape) => samples.map((_, n) => shape((2 * Math.PI * frequency * n) / RATE));
  const middle = (values) => values.subarray(RATE / 10, -RATE / 10);
  const [sine, cosine] = [wave(Math.sin), wave(Math.cos)];
  const part = (shape) => {
    const product = middle(samples.map((sample, n) => sample * shape[n]));
    return (2 * product.reduce((sum, value) => sum + value, 0)) / product.length;
  };
  const [a, b] = [part(sine), part(cosine)];
  return samples.map((sample, n) => sample - a * sine[n] - b * cosine[n]);
}

for (const rate of RATES.filter((rate) => rate > RATE)) {
  test(`from ${rate} Hz, aliases are 60 dB down and speech is unchanged`, () => {
    const aliasing = [];
    for (let frequency = 8000; frequency <= rate / 2; frequency += frequency < 10000 ? 100 : rate / 97) {
      aliasing.push([level(resampled(tone(frequency, rate), rate)), frequency]);
    }
    const [worst, where] = aliasing.reduce((a, b) => (b[0] > a[0] ? b : a));
    assert.ok(worst < -60, `${worst.toFixed(1)} dB at ${where} Hz`);
    for (const frequency of [60, 440, 3000, 7000]) {
      assert.ok(Math.abs(level(resampled(tone(frequency, rate), rate))) < 0.1, `${frequency} Hz`);
    }
  });
}

for (const rate of RATES) {
  test(`${rate} Hz gives the same tone, no other, and the right number of samples`, () => {
    for (const frequency of [440, 3100]) {
      const samples = resampled(tone(frequency, rate), rate);
      assert.ok(Math.abs(samples.length - RATE * SECONDS) <= 1);
      const rest = level(without(frequency, samples));
      assert.ok(rest < -70, `${rest.toFixed(1)} dB beside ${frequency} Hz`);
    }
  });

  test(`${rate} Hz gives the same samples for any block size`, () => {
    const samples = tone(1000, rate, 0.1);
    for (const block of [1, 7, 128, 100_000]) {
      assert.deepEqual(resampled(samples, rate, block), resampled(samples, rate, 333));
    }
  });
}

test("16 kHz passes unchanged", () => {
  const samples = tone(7900, RATE);
  assert.deepEqual(resampled(samples, RATE), samples);
});

test("integers are rounded, and clipped if too loud", () => {
  const samples = Float32Array.of(0, 0.5, -1, 1, 7, -7, 1.4 / 32768, -1.6 / 32768);
  assert.deepEqual(toInt16(samples), Int16Array.of(0, 16384, -32768, 32767, 32767, -32768, 1, -2));
});
