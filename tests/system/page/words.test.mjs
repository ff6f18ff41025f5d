import assert from "node:assert/strict";
import { test } from "node:test";

import { closing, problem, time } from "../../../app/speechbridge/server/static/words.mjs";

const CODES = [
  0, 1000, 1007, 1008, 1009, 1011, 1014, 4001, 4002, 4003, 4008, 4009, 4010, 4013, 4029, 4030, 4031, 4032, 4033, 4034,
  4035, 4036,
];

for (const code of CODES) {
  test(`a close with ${code} has words of its own, and the service's`, () => {
    const { title, text, reason } = closing({ code, reason: "because" });
    assert.notEqual(title, closing({ code: 4999, reason: "" }).title);
    assert.ok(text.endsWith("."));
    assert.equal(reason, "because");
  });
}

test("an unknown close is told with its number", () => {
  assert.match(closing({ code: 4999, reason: "" }).title, /4999/);
});

test("only a missing key asks for one, and what will not pass is not tried again", () => {
  assert.deepEqual(
    CODES.filter((code) => closing({ code }).action === "key"),
    [4001],
  );
  assert.deepEqual(
    CODES.filter((code) => closing({ code }).action === undefined),
    [1007, 1008, 1009, 4002, 4036],
  );
});

test("an insecure page names the addresses that would do", () => {
  const { text } = problem("insecure", { host: "captions.example:8000", port: "8000" });
  assert.match(text, /https:\/\/captions\.example:8000/);
  assert.match(text, /http:\/\/localhost:8000/);
});

test("lost sound is told in seconds", () => {
  assert.match(problem("lost", { seconds: 3.2 }).title, /3\.2 s/);
});

test("a close says how much was not heard, where it was more than a moment", () => {
  assert.match(closing({ code: 4034 }, 3.21).text, /^3\.2 s were not heard\./);
  assert.doesNotMatch(closing({ code: 4029 }, 0.3).text, /heard/);
});

test("times are as a person reads them", () => {
  assert.deepEqual([0, 7.9, 754, 3723].map(time), ["0:00", "0:07", "12:34", "1:02:03"]);
});
