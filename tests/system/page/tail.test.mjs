import assert from "node:assert/strict";
import { test } from "node:test";

import { Tail } from "../../../app/speechbridge/server/static/tail.mjs";

test("words are stable once they were the same in two partials", () => {
  const tail = new Tail();
  assert.equal(tail.update(["the"]), 0);
  assert.equal(tail.update(["the", "whether"]), 1);
  assert.equal(tail.update(["the", "weather"]), 1);
  assert.equal(tail.update(["the", "weather", "is"]), 2);
  assert.equal(tail.update(["the", "weather", "is", "nice"]), 3);
});

test("no word after one that changed is stable", () => {
  const tail = new Tail();
  for (let n = 0; n < 3; n++) tail.update(["one", "two", "three"]);
  assert.equal(tail.update(["one", "too", "three"]), 1);
});

test("a word that comes back is not stable at once, and the next utterance begins anew", () => {
  const tail = new Tail();
  for (let n = 0; n < 3; n++) tail.update(["one", "two"]);
  tail.update(["one"]);
  assert.equal(tail.update(["one", "two"]), 1);
  tail.reset();
  assert.equal(tail.update(["one", "two"]), 0);
});
