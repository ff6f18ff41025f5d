import assert from "node:assert/strict";
import { test } from "node:test";

import { STATES, closing, details, problem, time } from "../../../app/speechbridge/server/static/words.mjs";

const CODES = [
  0, 1000, 1007, 1008, 1009, 1011, 1014, 4001, 4002, 4003, 4008, 4009, 4010, 4013, 4029, 4030, 4031, 4032, 4033, 4034,
  4035, 4036,
];

for (const code of CODES) {
  test(`a close with ${code} has its own text, and the service's reason`, () => {
    const { title, text, reason } = closing({ code, reason: "because" });
    assert.notEqual(title, closing({ code: 4999, reason: "" }).title);
    assert.ok(text.endsWith("."));
    assert.equal(reason, "because");
  });
}

test("an unknown close is shown with its code", () => {
  assert.match(closing({ code: 4999, reason: "" }).title, /4999/);
});

test("only 4001 asks for a key, and permanent errors offer no retry", () => {
  assert.deepEqual(
    CODES.filter((code) => closing({ code }).action === "key"),
    [4001],
  );
  assert.deepEqual(
    CODES.filter((code) => closing({ code }).action === undefined),
    [1007, 1008, 1009, 4002, 4036],
  );
});

test("an insecure page names addresses that work", () => {
  const { text } = problem("insecure", { host: "captions.example:8000", port: "8000" });
  assert.match(text, /https:\/\/captions\.example:8000/);
  assert.match(text, /http:\/\/localhost:8000/);
});

test("lost audio is given in seconds", () => {
  assert.match(problem("lost", { seconds: 3.2 }).title, /3\.2 s/);
});

test("a close tells how much audio was not transcribed, if at least a second", () => {
  assert.match(closing({ code: 4034 }, { unsent: 3.21 }).text, /^3\.2 s of audio were not transcribed\./);
  assert.doesNotMatch(closing({ code: 4029 }, { unsent: 0.3 }).text, /transcribed/);
});

test("times are written as people read them", () => {
  assert.deepEqual([0, 7.9, 754, 3723].map(time), ["0:00", "0:07", "12:34", "1:02:03"]);
});

test("a missing key, a wrong key and a wrong token of the service are three different things", () => {
  const close = { code: 4001, reason: "no" };
  assert.match(closing(close).title, /required/);
  assert.equal(closing(close).action, "key");
  assert.match(closing(close, { hasKey: true }).title, /not accepted/);
  assert.equal(closing(close, { hasKey: true }).action, "key");
  assert.match(closing(close, { hasKey: true, hasBegun: true }).title, /speech service/);
  assert.equal(closing(close, { hasBegun: true }).action, "again");
});

test("audio that is kept for later is not called lost", () => {
  const { text } = closing({ code: 0 }, { unsent: 3, kept: 4 });
  assert.match(text, /^4\.0 s of audio are kept on this device/);
  assert.doesNotMatch(text, /not transcribed/);
});

test("a state tells its figures", () => {
  assert.equal(details({ behind: 12.4 }), "12 s behind");
  assert.equal(details({ behind: 5, held: 3.21, lost: 0.5 }), "3.2 s buffered, 0.5 s lost");
  assert.equal(details({ queued: { place: 3, wait_seconds: 40 }, held: 2 }), "place 3, about 40 s, 2.0 s buffered");
  assert.equal(details({}), "");
  assert.equal(new Set(Object.values(STATES)).size, Object.keys(STATES).length - 1); // two wait for the service
});
