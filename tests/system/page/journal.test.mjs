import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Journal } from "../../../app/speechbridge/server/static/journal.mjs";
import { Transcript } from "../../../app/speechbridge/server/static/transcript.mjs";

globalThis.IDBKeyRange = { bound: (first, last) => ({ first, last }) };

const FRAME = 3200;
const SECOND = 10 * FRAME; // as much as goes into one piece
const piece = (n, size = FRAME) => new Uint8Array(size).fill(n);

let database; // what is stored, by store and key
let transactions; // { commit, fail } of those that run

/** A database whose transactions take until the test commits them. */
function store(act) {
  const changes = [];
  const stores = Object.fromEntries(
    Object.keys(database).map((name) => [
      name,
      {
        put: (value, key) => changes.push(() => database[name].set(`${key}`, structuredClone(value))),
        delete: ({ first, last } = {}, key = first) =>
          changes.push(() => {
            for (const each of database[name].keys()) {
              const [id, at] = each.split(",");
              if (id === `${key?.[0] ?? key}` && (!last || Number(at) <= last[1])) database[name].delete(each);
            }
          }),
      },
    ]),
  );
  // One key, not a range.
  stores.streams.delete = (id) => changes.push(() => database.streams.delete(id));
  act(stores);
  return new Promise((resolve, reject) => {
    transactions.push({
      commit() {
        changes.forEach((change) => change());
        resolve();
      },
      fail: () => reject(new Error("the disk is full")),
    });
  });
}

beforeEach(() => {
  database = { streams: new Map(), audio: new Map(), finals: new Map(), transcripts: new Map() };
  transactions = [];
});

async function commit() {
  transactions.shift().commit();
  await new Promise(setImmediate);
}

function journal(record = { id: "S", seconds: 10 }) {
  const transcript = new Transcript({ id: "T" });
  let failures = 0;
  const made = new Journal(store, record, transcript, () => failures++);
  return { journal: made, transcript, failures: () => failures };
}

const said = { type: "final", begin: 10, ts: 10, end_ts: 10.2, elements: [{ type: "text", value: "word" }] };

test("what arrives during a transaction is stored in the next one, audio as one piece", async () => {
  const { journal: written } = journal();
  for (let n = 0; n < 5; n++) written.audio(n * FRAME, piece(n), 0);
  assert.equal(transactions.length, 1);
  await commit();
  assert.deepEqual([...database.audio.keys()], ["S,0"]);
  assert.equal(transactions.length, 1);
  await commit();
  assert.deepEqual([...database.audio.keys()], ["S,0", `S,${FRAME}`]);
  assert.deepEqual(
    [...database.audio.get(`S,${FRAME}`)],
    [1, 2, 3, 4].flatMap((n) => [...piece(n)]),
  );
  assert.equal(transactions.length, 0);
  assert.deepEqual(database.streams.get("S"), {
    id: "S",
    seconds: 10,
    transcript: "T",
    start: 0,
    base: 0,
    settled: 0,
    key: null,
    finals: 0,
  });
});

test("a final is stored, with its progress, before it is acknowledged; settled audio is deleted", async () => {
  const { journal: written, transcript } = journal();
  for (let n = 0; n < 5; n++) written.audio(n * SECOND, piece(n, SECOND), 0);
  await commit();
  await commit();
  transcript.add(said);
  let isDone = false;
  const progress = { key: "KEY", base: 0, finals: 1, settled: 3.5 * SECOND, start: 3.5 * SECOND };
  written.final(said, progress, () => (isDone = true));
  assert.equal(isDone, false);
  await commit();
  assert.equal(isDone, true);
  assert.deepEqual(database.finals.get("T,0"), said);
  assert.equal(database.transcripts.get("T").count, 1);
  assert.equal(database.streams.get("S").key, "KEY");
  assert.deepEqual([...database.audio.keys()], [`S,${3 * SECOND}`, `S,${4 * SECOND}`]);
});

test("a stream that is transcribed leaves nothing behind", async () => {
  const { journal: written } = journal();
  written.audio(0, piece(0), 0);
  written.close(FRAME, FRAME);
  await commit();
  await commit();
  assert.equal(database.streams.size + database.audio.size, 0);
});

test("audio that is not transcribed stays, for a new stream", async () => {
  const { journal: written } = journal();
  for (let n = 0; n < 4; n++) written.audio(n * SECOND, piece(n, SECOND), 0);
  written.progress({ key: "KEY", base: 0, finals: 3, settled: 2 * SECOND, start: 0 });
  written.close(2.5 * SECOND, 4 * SECOND);
  await commit();
  await commit();
  const { key, finals, base, start } = database.streams.get("S");
  assert.deepEqual({ key, finals, base, start }, { key: null, finals: 0, base: 2.5 * SECOND, start: 2.5 * SECOND });
  assert.deepEqual([...database.audio.keys()], [`S,${2 * SECOND}`, `S,${3 * SECOND}`]);
});

test("finals after a new transcript was begun go there", async () => {
  const { journal: written } = journal();
  written.audio(0, piece(0), 0);
  const next = new Transcript({ id: "U" });
  next.add(said);
  written.transcript = next;
  written.final(said, { key: "KEY", base: 0, finals: 1, settled: 0, start: 0 }, () => {});
  await commit();
  await commit();
  assert.ok(database.finals.has("U,0"));
  assert.equal(database.streams.get("S").transcript, "U");
});

test("a device that cannot store is reported once, and finals are acknowledged all the same", async () => {
  const { journal: written, transcript, failures } = journal();
  written.audio(0, piece(0), 0);
  transactions.shift().fail();
  await new Promise(setImmediate);
  transcript.add(said);
  let isDone = false;
  written.final(said, { key: "KEY", base: 0, finals: 1, settled: 0, start: 0 }, () => (isDone = true));
  await new Promise(setImmediate);
  assert.equal(failures(), 1);
  assert.equal(isDone, true);
});

test("a piece never grows beyond a second, and no byte is in two", async () => {
  const { journal: written } = journal();
  for (let n = 0; n < 35; n++) written.audio(n * FRAME, piece(n), 0);
  await commit();
  await commit();
  const sizes = [...database.audio].map(([key, bytes]) => [Number(key.split(",")[1]), bytes.length]);
  assert.ok(sizes.every(([, size]) => size <= 2 ** 15));
  let end = 0;
  for (const [position, size] of sizes) {
    assert.equal(position, end);
    end += size;
  }
  assert.equal(end, 35 * FRAME);
});

test("what is lost if the page is left is all audio of transactions that did not end", async () => {
  const { journal: written } = journal();
  for (let n = 0; n < 3; n++) written.audio(n * FRAME, piece(n), 0);
  const left = () => written.unstored.pieces.map(({ position, bytes }) => [position, bytes.length]);
  assert.deepEqual(left(), [
    [0, FRAME],
    [FRAME, 2 * FRAME],
  ]);
  assert.equal(written.unstored.record.id, "S");
  assert.equal(written.unstored.record.transcript, "T");
  await commit();
  assert.deepEqual(left(), [[FRAME, 2 * FRAME]]);
  written.audio(3 * FRAME, piece(3), 0);
  await commit();
  assert.deepEqual(left(), [[3 * FRAME, FRAME]]);
  await commit();
  assert.deepEqual(left(), []);
  written.close(4 * FRAME, 4 * FRAME);
  assert.equal(written.unstored, null);
});
