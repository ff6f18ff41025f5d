import assert from "node:assert/strict";
import { test } from "node:test";

import { CaptureClock, Latency } from "../../../app/speechbridge/server/static/latency.mjs";

const APART = 5000; // ms: our clock minus the audio clock

/** Frames of 100 ms from 2 s of the audio clock on, each delivered that many ms late. */
function clockOf(frames, late = () => 0, delay = 0) {
  const clock = new CaptureClock(delay);
  for (let n = 1; n <= frames; n++) clock.frame(n / 10, 2 + n / 10, APART + 2000 + n * 100 + late(n));
  return clock;
}

function near(actual, expected) {
  assert.ok(Math.abs(actual - expected) < 1e-6, `${actual} is not ${expected}`);
}

test("the capture time of a sample is exact within a frame", () => {
  const clock = clockOf(20);
  near(clock.at(1.23), APART + 2000 + 1230);
  near(clock.at(2), APART + 2000 + 2000);
});

test("late frames do not matter while some arrive on time", () => {
  const clock = clockOf(60, (n) => (n % 10 ? 40 : 0));
  near(clock.at(5.55), APART + 2000 + 5550);
});

test("the delay of the microphone is included", () => {
  near(clockOf(20, undefined, 30).at(1), APART + 2000 + 1000 - 30);
});

test("a pause of the audio clock shifts the times after it", () => {
  const clock = clockOf(10);
  clock.frame(1.1, 2 + 1.1 + 60, APART + 2000 + 1100 + 60_000);
  near(clock.at(0.95), APART + 2950);
  near(clock.at(1.05), APART + 2000 + 61_050);
});

test("audio whose frame is forgotten, or has not arrived, has no time", () => {
  const clock = clockOf(5000);
  assert.equal(clock.at(0.05), undefined);
  assert.equal(clock.at(500.1), undefined);
  near(clock.at(499.95), APART + 2000 + 499_950);
});

function message(type, ...ends) {
  return { type, end_ts: ends.at(-1) ?? 0, elements: ends.map((end_ts) => ({ type: "text", end_ts })) };
}

test("a word counts once, when it first appears", () => {
  const latency = new Latency(clockOf(100));
  const at = (second) => APART + 2000 + second * 1000;
  near(latency.shown(message("partial", 0.5), at(0.8)), 300);
  assert.equal(latency.shown(message("partial", 0.5), at(0.9)), undefined);
  near(latency.shown(message("partial", 0.5, 1), at(1.2)), 200);
  assert.equal(latency.shown(message("partial", 0.5), at(1.3)), undefined);
  assert.equal(latency.shown(message("final", 0.5, 1), at(1.9)), undefined);
  near(latency.shown(message("partial", 2.5), at(2.6)), 100);
  near(latency.median(at(2.6)), 200);
});

test("a final without a preceding partial counts", () => {
  const latency = new Latency(clockOf(100));
  near(latency.shown(message("final", 0.5, 1), APART + 2000 + 1700), 700);
});

test("without words there is no latency", () => {
  const latency = new Latency(clockOf(1));
  assert.equal(latency.shown(message("final"), 0), undefined);
  assert.equal(latency.median(0), undefined);
});

test("a figure is not shown any more when no word came for a while, or the connection was lost", () => {
  const latency = new Latency(clockOf(100));
  const now = APART + 2000 + 700;
  latency.shown(message("partial", 0.5), now);
  near(latency.median(now + 9_000), 200);
  assert.equal(latency.median(now + 11_000), undefined);
  latency.reset();
  assert.equal(latency.median(now), undefined);
});

test("captions are behind by the audio that the service does not have, or by the newest word, if noticeably", () => {
  const latency = new Latency(clockOf(300));
  assert.equal(latency.behind(500, 0), 0);
  assert.equal(latency.behind(12_000, 0), 12_000);
  const late = APART + 2000 + 1000 + 12_000;
  latency.shown(message("partial", 1), late);
  near(latency.behind(300, late + 100), 12_000);
  near(latency.behind(20_000, late + 100), 20_000);
  assert.equal(latency.behind(300, late + 5_000), 0); // nobody speaks: nothing is late
  latency.shown(message("partial", 1, 12), APART + 2000 + 12_400);
  assert.equal(latency.behind(300, APART + 2000 + 12_500), 0);
});

test("each of several words that appear together counts", () => {
  const latency = new Latency(clockOf(100));
  near(latency.shown(message("partial", 0.5, 0.8, 1), APART + 2000 + 1200), 200);
  near(latency.median(APART + 2000 + 1200), 400);
});
