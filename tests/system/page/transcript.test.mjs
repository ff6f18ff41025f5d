import assert from "node:assert/strict";
import { test } from "node:test";

import { Transcript, find, titleOf } from "../../../app/speechbridge/server/static/transcript.mjs";

const final = (begin, ts, value = "word") => ({
  type: "final",
  begin,
  ts,
  end_ts: ts + 1,
  elements: [{ type: "text", value }],
});

test("finals of a restored stream stand before those of later streams, whenever they arrive", () => {
  const transcript = new Transcript();
  const order = [final(0, 0), final(10, 10), final(10, 12), final(0, 5), final(0, 7), final(20, 20)];
  for (const each of order) transcript.add(each);
  assert.deepEqual(
    transcript.finals.map(({ ts }) => ts),
    [0, 5, 7, 10, 12, 20],
  );
  assert.deepEqual(
    order.map((each) => transcript.numberOf(each)),
    [0, 1, 2, 3, 4, 5],
  );
});

test("finals of one stream keep the order of their arrival, whatever their times are", () => {
  const transcript = new Transcript();
  for (const ts of [3, 1, 2]) transcript.add(final(0, ts));
  assert.deepEqual(
    transcript.finals.map(({ ts }) => ts),
    [3, 1, 2],
  );
});

test("its record tells what a list shows, and makes it again", () => {
  const transcript = new Transcript();
  transcript.add(final(0, 4, "Good evening"));
  const { record } = transcript;
  assert.equal(record.count, 1);
  assert.equal(record.seconds, 5);
  assert.equal(titleOf(record), "Good evening");
  const again = new Transcript({ ...record, title: "Town hall" });
  assert.equal(again.id, transcript.id);
  assert.equal(again.seconds, 5);
  assert.equal(titleOf(again.record), "Town hall");
  assert.equal(titleOf(new Transcript().record), "Untitled");
});

test("a search ignores case and accents, and shows the words around the match", () => {
  const text = "We walked for a long while, and then the café by the river was closed again, as it always was.";
  const { before, match, after } = find(text, "CAFE");
  assert.equal(match, "café");
  assert.match(before, /^… .*then the $/);
  assert.match(after, /^ by the river/);
  assert.equal(find(text, "bridge"), null);
  assert.deepEqual(find("bridge", "bridge"), { before: "", match: "bridge", after: "" });
});

test("an excerpt of a text without spaces begins at the match", () => {
  const { before, match } = find("あ".repeat(100) + "橋", "橋");
  assert.equal(match, "橋");
  assert.ok(before.length <= 40, before);
});
