import assert from "node:assert/strict";
import { test } from "node:test";

import { hypothesis, line, places, toJson, toText, toVtt } from "../../../app/speechbridge/server/static/captions.mjs";

const text = (value, rest) => ({ type: "text", value, ...rest });
const punct = (value) => ({ type: "punct", value });

test("each word has its place in the line, wherever the spaces are", () => {
  const final = {
    type: "final",
    elements: [punct("  "), text("Hello"), punct(", "), text("big  old"), punct("  "), text("world"), punct(".")],
  };
  const shown = line(final);
  assert.equal(shown, "Hello, big old world.");
  assert.deepEqual(
    places(final).map(({ from, to }) => shown.slice(from, to)),
    ["Hello", "big old", "world"],
  );
});

test("a partial's words are joined with spaces", () => {
  const partial = { type: "partial", elements: [text("one"), text("tooth")] };
  assert.equal(line(partial), "one tooth");
  assert.deepEqual(
    places(partial).map(({ from, to }) => [from, to]),
    [
      [0, 3],
      [4, 9],
    ],
  );
});

test("malformed messages of another server are parsed as far as possible", () => {
  assert.deepEqual(hypothesis({ type: "final" }), { type: "final", ts: 0, end_ts: 0, elements: [] });
  const odd = { type: "final", ts: "1", end_ts: 2, elements: [null, 3, { value: 7, ts: NaN, confidence: "high" }] };
  const [element] = hypothesis(odd).elements;
  assert.deepEqual(element, { type: "unknown", value: "7", ts: undefined, end_ts: undefined, confidence: undefined });
});

test("no control character reaches the page", () => {
  assert.equal(line({ type: "final", elements: [text("a\u0000b\u2028c\ud800d")] }), "a b c d");
});

const spoken = (value, speaker, ts) => ({ type: "text", value, speaker, ts, end_ts: ts + 0.2 });

test("files tell speakers apart", () => {
  const finals = [
    {
      type: "final",
      ts: 0,
      end_ts: 2,
      elements: [spoken("Hello", "7", 0), punct(". "), spoken("Good", "3", 1), punct(" "), spoken("day", "3", 1.3)],
    },
    { type: "final", ts: 3, end_ts: 4, elements: [spoken("Bye", "3", 3)] },
    { type: "final", ts: 5, end_ts: 6, elements: [spoken("<Yes>", "Ann & Bo", 5)] },
  ];
  assert.equal(toText(finals), "Speaker 1: Hello.\nSpeaker 2: Good day\nBye\nAnn & Bo: <Yes>\n");
  assert.match(toVtt(finals), /<v Speaker 1>Hello\.\n\n.*\n<v Speaker 2>Good day\n/u);
  assert.match(toVtt(finals), /<v Ann &amp; Bo>&lt;Yes&gt;\n$/u);
  const { monologues } = JSON.parse(toJson(finals));
  assert.deepEqual(
    monologues.map(({ speaker, elements }) => [speaker, elements.map(({ value }) => value).join("")]),
    [
      [0, "Hello. "],
      [1, "Good day"],
      [1, "Bye"],
      [2, "<Yes>"],
    ],
  );
  assert.ok(monologues.every(({ elements }) => elements.every((element) => !("speaker" in element))));
});
