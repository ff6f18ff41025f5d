import assert from "node:assert/strict";
import { test } from "node:test";

import { Ring } from "../../../app/speechbridge/server/static/ring.mjs";

test("the buffer holds the newest bytes, at any size and after any append", () => {
  for (let room = 1; room < 20; room++) {
    const ring = new Ring(room);
    const all = [];
    for (let step = 0; step < 60; step++) {
      const bytes = Array.from({ length: (step * 7) % (room + 1) }, () => (all.length + step) % 251);
      ring.append(Uint8Array.from(bytes));
      all.push(...bytes);
      assert.equal(ring.end, all.length);
      assert.equal(ring.start, Math.max(0, all.length - room));
      for (let at = ring.start; at <= ring.end; at++) {
        assert.deepEqual([...ring.read(at, 5)], all.slice(at, at + 5));
      }
    }
  }
});

test("released bytes are gone, and never more than there are", () => {
  const ring = new Ring(10);
  ring.append(Uint8Array.of(1, 2, 3));
  ring.release(2);
  assert.equal(ring.start, 2);
  ring.release(1);
  assert.equal(ring.start, 2);
  ring.release(99);
  assert.equal(ring.start, 3);
});

test("a copy is not overwritten", () => {
  const ring = new Ring(4);
  ring.append(Uint8Array.of(1, 2, 3, 4));
  const copy = ring.read(0, 4);
  ring.append(Uint8Array.of(5, 6, 7, 8));
  assert.deepEqual([...copy], [1, 2, 3, 4]);
});

test("a buffer may begin at any position", () => {
  const ring = new Ring(10, 12_345);
  ring.append(Uint8Array.of(1, 2, 3, 4, 5, 6, 7));
  ring.append(Uint8Array.of(8, 9, 10, 11, 12));
  assert.deepEqual([ring.start, ring.end], [12_347, 12_357]);
  assert.deepEqual([...ring.read(12_350, 5)], [6, 7, 8, 9, 10]);
});
