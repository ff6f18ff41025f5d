import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { ResumableStream } from "../../../app/speechbridge/server/static/stream.mjs";

const FRAME = 1600; // samples: 100 ms, 3,200 bytes

let sockets;

/** A fake of the browser's WebSocket; the test plays the service. */
class Socket {
  bufferedAmount = 0;
  audio = [];
  texts = [];
  isClosed = false;

  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    if (protocols.some((protocol) => protocol.includes(" "))) throw new SyntaxError("no such protocol");
    sockets.push(this);
  }

  get query() {
    return Object.fromEntries(this.url.searchParams);
  }

  send(message) {
    if (typeof message === "string") this.texts.push(message);
    else this.audio.push(...message);
  }

  close() {
    this.isClosed = true;
  }

  say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  greet(position = 0, resume = "KEY") {
    this.say({ type: "connected", id: "1", resume, position });
  }

  end(code, reason = "") {
    const { onclose } = this;
    this.onclose = null;
    onclose?.({ code, reason });
  }
}

function started(options = {}) {
  const seen = { states: [], messages: [], lost: [], over: [] };
  const on = {
    state: (state) => seen.states.push(state),
    message: (message) => seen.messages.push(message.type),
    lost: (seconds) => seen.lost.push(seconds),
    over: ({ code }) => seen.over.push(code),
  };
  return { stream: new ResumableStream("ws://here", { on, ...options }), seen };
}

const bytesOf = (frames) => frames.flatMap((frame) => [...new Uint8Array(frame.buffer)]);
const frameOf = (n) => Int16Array.from({ length: FRAME }, (_, at) => n * 100 + (at % 97));
const last = () => sockets.at(-1);
const final = (end_ts) => ({ type: "final", ts: 0, end_ts, elements: [] });

/** Let time pass in steps: all timers due within a tick of node's mocked clock see the time at its end. */
function pass(ms) {
  for (let left = ms; left > 0; left -= 50) mock.timers.tick(Math.min(50, left));
}

/** Send like a microphone: a frame every 100 ms. */
function speak(stream, from, to) {
  for (let n = from; n < to; n++) {
    stream.send(frameOf(n));
    pass(100);
  }
}

beforeEach(() => {
  sockets = [];
  globalThis.WebSocket = Socket;
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e12 });
  mock.method(Math, "random", () => 0.5);
});
afterEach(() => mock.reset() ?? mock.timers.reset());

test("audio recorded before `connected` is sent after it, and EOS at the end", () => {
  const { stream, seen } = started();
  speak(stream, 0, 3);
  assert.deepEqual(last().audio, []);
  last().greet();
  speak(stream, 3, 5);
  stream.end();
  assert.deepEqual(last().audio, bytesOf([0, 1, 2, 3, 4].map(frameOf)));
  assert.deepEqual(last().texts, ["EOS"]);
  last().end(1000, "End of input. Closing");
  assert.deepEqual(seen, { states: ["live"], messages: [], lost: [], over: [1000] });
});

test("it requests raw audio, detailed partials, resuming, and timestamps that continue", () => {
  started({ seconds: 12.5 });
  assert.equal(last().url.pathname, "/speechtotext/v1/stream");
  assert.deepEqual(last().query, {
    content_type: "audio/x-raw;layout=interleaved;rate=16000;format=S16LE;channels=1",
    detailed_partials: "true",
    start_ts: "12.5",
    resume: "true",
    queue: "true",
  });
});

test("in the queue it says its place, keeps the audio, and keeps its place when it is cut or the service drains", () => {
  const { stream, seen } = started();
  last().say({ type: "queued", place: 2, wait_seconds: 40, ticket: "TICKET" });
  speak(stream, 0, 3);
  for (const code of [1006, 4010]) {
    last().end(code);
    pass(1_000);
    assert.equal(last().query.ticket, "TICKET");
  }
  last().say({ type: "queued", place: 1, wait_seconds: 20, ticket: "TICKET" });
  pass(60_500); // a dead connection says nothing
  assert.equal(last().query.ticket, "TICKET");
  assert.equal(sockets.length, 4);
  last().greet();
  pass(100);
  assert.deepEqual(last().audio, bytesOf([0, 1, 2].map(frameOf)));
  assert.deepEqual(seen.states, ["queued", "reconnecting", "reconnecting", "queued", "reconnecting", "live"]);
  last().end(4010); // the stream has begun: another one is begun anew
  pass(1_000);
  assert.equal(last().query.ticket, undefined);
  stream.abandon();
});

test("after a lost connection it resumes with its key, from the service's position", () => {
  const { stream, seen } = started();
  last().greet();
  speak(stream, 0, 10);
  last().say(final(0.2));
  assert.deepEqual(last().texts, ['{"type":"received","finals":1}']);
  last().end(1006);
  speak(stream, 10, 20);
  assert.equal(stream.held, 2);
  assert.deepEqual(last().query, { resume: "KEY", finals: "1" });
  last().greet(5 * 3200);
  speak(stream, 20, 40);
  assert.deepEqual(last().audio, bytesOf(Array.from({ length: 35 }, (_, n) => frameOf(n + 5))));
  assert.deepEqual(seen.states, ["live", "reconnecting", "live"]);
});

test("if the service does not know the stream, a new one starts after the last final", () => {
  const { stream, seen } = started({ seconds: 100 });
  last().greet();
  speak(stream, 0, 20);
  last().say({ type: "received", position: 20 * 3200 });
  last().say(final(100.5));
  last().end(1006);
  pass(100);
  last().end(4002, "resume: there is no such stream");
  pass(100);
  assert.equal(last().query.start_ts, "100.5");
  assert.equal(last().query.resume, "true");
  last().greet();
  pass(5000);
  assert.deepEqual(last().audio, bytesOf(Array.from({ length: 15 }, (_, n) => frameOf(n + 5))));
  last().say(final(101.5));
  assert.deepEqual(last().texts, ['{"type":"received","finals":1}']);
  assert.deepEqual(seen.over, []);
});

for (const code of [4010, 1013]) {
  test(`${code} in mid-stream asks to resume, however often; at the start it is reported`, () => {
    const { stream, seen } = started();
    last().greet();
    speak(stream, 0, 10);
    last().say(final(0.5));
    for (let again = 0; again < 5; again++) {
      last().end(code);
      pass(10_001);
      assert.equal(last().query.resume, "KEY");
    }
    assert.deepEqual(seen.over, []);

    const other = started();
    last().end(code);
    assert.deepEqual(other.seen.over, [code]);
  });
}

for (const code of [4013, 4029, 4030, 4031]) {
  test(`${code} in mid-stream leads to a new stream; at the start it is reported`, () => {
    const { stream, seen } = started();
    last().greet();
    speak(stream, 0, 10);
    last().say(final(0.5));
    last().end(code);
    pass(10_001);
    assert.equal(last().query.start_ts, "0.5");
    assert.deepEqual(seen.over, []);

    const other = started();
    last().end(code);
    assert.deepEqual(other.seen.over, [code]);
  });
}

for (const code of [1000, 1007, 4001, 4002, 4003, 4008, 4009, 4032, 4034, 4035, 4036]) {
  test(`${code} is permanent`, () => {
    const { stream, seen } = started();
    last().greet();
    speak(stream, 0, 3);
    last().end(code);
    speak(stream, 3, 100);
    assert.equal(sockets.length, 1);
    assert.deepEqual(seen.over, [code]);
  });
}

test("a lost connection with the same close three times, without a final in between, is permanent", () => {
  const { stream, seen } = started();
  for (let n = 0; n < 3; n++) {
    assert.deepEqual(seen.over, []);
    last().greet();
    speak(stream, n * 50, n * 50 + 50);
    last().end(1011, "the speech SDK failed");
    pass(5000);
  }
  assert.deepEqual(seen.over, [1011]);
  assert.equal(sockets.at(-1).query.resume, "true"); // the last time with a line of its own
});

test("a long network outage never ends the stream, and the evicted audio is reported", () => {
  const { stream, seen } = started();
  last().greet();
  speak(stream, 0, 10);
  last().say({ type: "received", position: 32_000 });
  last().end(1006);
  for (let n = 10; n < 1010; n++) {
    speak(stream, n, n + 1);
    last().end(1006);
  }
  const lost = seen.lost.reduce((sum, seconds) => sum + seconds, 0);
  assert.ok(Math.abs(lost + 2 ** 21 / 32_000 - 100) < 1e-6, `${lost}`);
  assert.equal(Math.round(stream.held), Math.round(2 ** 21 / 32_000));
  pass(5000);
  last().greet(32_000);
  for (let n = 0; n < 20; n++) {
    pass(1000);
    last().say({ type: "received", position: 32_000 + last().audio.length });
  }
  const silent = last().audio.findIndex(Boolean);
  assert.ok(Math.abs(silent / 32_000 - lost) < 0.1, `silence replaces ${silent / 32_000} s, but ${lost} s were lost`);
  assert.equal(last().audio.length, 100 * 32_000);
  assert.deepEqual(seen.over, []);
});

test("evicting acknowledged audio without a final is not reported as a loss", () => {
  const { stream, seen } = started();
  last().greet();
  for (let n = 0; n < 1500; n++) {
    speak(stream, n, n + 1);
    last().say({ type: "received", position: (n + 1) * 3200 });
  }
  assert.deepEqual(seen.lost, []);
});

test("a connection that died silently is noticed", () => {
  const { stream, seen } = started();
  last().greet();
  speak(stream, 0, 100);
  assert.deepEqual(seen.states, ["live", "reconnecting"]);
  assert.ok(sockets[0].isClosed);
  assert.equal(last().query.resume, "KEY");
});

test("a connection without unacknowledged audio may be silent", () => {
  const { stream, seen } = started();
  last().greet();
  speak(stream, 0, 5);
  last().say({ type: "received", position: 16_000 });
  pass(60_000);
  assert.deepEqual(seen.states, ["live"]);
});

test("in a hidden tab, whose timers are delayed, audio runs what is due", () => {
  const { stream } = started();
  last().greet();
  last().end(1006);
  const now = performance.now();
  mock.method(performance, "now", () => now + 5000);
  stream.send(frameOf(0));
  assert.equal(sockets.length, 2);
});

test("an unanswered handshake is retried", () => {
  started();
  pass(13_000);
  assert.equal(sockets.length, 2);
});

test("buffered audio is sent at a limited rate", () => {
  const { stream } = started();
  speak(stream, 0, 300);
  last().greet();
  pass(1000);
  const sent = last().audio.length / 3200;
  assert.ok(sent >= 80 && sent <= 16 + 80 + 4, `${sent}`);
});

test("a browser with a full send queue gets no more", () => {
  const { stream } = started();
  last().greet();
  last().bufferedAmount = 2 ** 17;
  speak(stream, 0, 50);
  assert.deepEqual(last().audio, []);
  last().bufferedAmount = 0;
  speak(stream, 50, 60);
  assert.equal(last().audio.length, 60 * 3200);
});

test("a key is sent with every handshake; without one, no subprotocol is", () => {
  started();
  assert.deepEqual(last().protocols, []);
  started({ accessKey: "secret" });
  last().end(1006);
  pass(5000);
  assert.deepEqual(last().protocols, ["speechbridge", "speechbridge.key.secret"]);
});

test("a key with illegal characters is reported as an unknown key", () => {
  const { seen } = started({ accessKey: "not a key" });
  pass(1);
  assert.deepEqual(seen.over, [4001]);
});

test("the network's return ends the pause before a retry", () => {
  const { stream } = started();
  last().greet();
  last().end(1006);
  stream.retryNow();
  assert.equal(sockets.length, 2);
  stream.retryNow();
  assert.equal(sockets.length, 2);
});

test("waiting for the last words is limited, also without a network", () => {
  const { stream, seen } = started();
  last().greet();
  speak(stream, 0, 1);
  stream.end();
  last().say({ type: "received", position: 3200 });
  pass(41_000);
  assert.deepEqual(seen.over, [0]);
});

test("a service too old to resume streams is reported", () => {
  const { seen } = started();
  last().say({ type: "connected", id: "1" });
  assert.deepEqual(seen.over, [0]);
  assert.ok(last().isClosed);
});

test("plain text of another SDK is shown as a partial", () => {
  const { seen } = started();
  last().greet();
  last().onmessage({ data: "Get b'one'" });
  last().say("words");
  last().say({ type: "final" });
  last().say({ type: "received", position: 3200 });
  assert.deepEqual(seen.messages, ["partial", "partial", "final"]);
});

test("an abandoned stream closes and reports nothing more", () => {
  const { stream, seen } = started();
  last().greet();
  stream.abandon();
  assert.ok(last().isClosed);
  last().say(final(1));
  last().end(1006);
  pass(60_000);
  assert.deepEqual(seen, { states: ["live"], messages: [], lost: [], over: [0] });
});

/** A journal in memory. */
class Notes {
  pieces = new Map();
  stored = []; // functions that acknowledge finals
  closed = null;

  audio(position, bytes) {
    this.pieces.set(position, bytes.slice());
  }

  progress(progress) {
    this.last = progress;
  }

  final(message, progress, done) {
    this.last = progress;
    this.stored.push(done);
  }

  close(position, end) {
    this.closed = [position, end];
  }

  /** What a page finds of it after a crash. */
  get restored() {
    const parts = [...this.pieces.values()];
    return { ...this.last, position: 0, parts };
  }
}

test("a final is acknowledged when it is stored, and not on another connection", () => {
  const journal = new Notes();
  const { stream } = started({ journal });
  last().greet();
  speak(stream, 0, 5);
  last().say(final(0.2));
  last().say(final(0.3));
  assert.deepEqual(last().texts, []);
  journal.stored[0]();
  assert.deepEqual(last().texts, ['{"type":"received","finals":1}']);
  last().end(1006);
  pass(200);
  last().greet(0);
  journal.stored[1]();
  assert.deepEqual(last().texts, []);
});

test("after a crash the stream is resumed from the journal, and every byte reaches the service", () => {
  const journal = new Notes();
  const { stream } = started({ journal, seconds: 100 });
  last().greet();
  speak(stream, 0, 20);
  last().say(final(100.5));
  const { restored } = journal;
  const { stream: again, seen } = started({ restored, seconds: 100 });
  assert.deepEqual(last().query, { resume: "KEY", finals: "1" });
  again.end();
  last().greet(12 * 3200);
  assert.deepEqual(last().audio, bytesOf(Array.from({ length: 8 }, (_, n) => frameOf(n + 12))));
  assert.deepEqual(last().texts, ["EOS"]);
  last().end(1000, "End of input. Closing");
  assert.deepEqual(seen.over, [1000]);
});

for (const isGreeted of [false, true]) {
  const when = isGreeted ? "after it has sent its last finals" : "at once";
  test(`a service that ends the resumed stream ${when} is given a new one with what is not settled`, () => {
    const journal = new Notes();
    const { stream } = started({ journal, seconds: 100 });
    last().greet();
    speak(stream, 0, 20);
    last().say(final(100.5));
    const { stream: again, seen } = started({ restored: journal.restored, seconds: 100 });
    again.end();
    if (isGreeted) {
      last().greet(12 * 3200);
      last().say(final(101));
    }
    last().end(4002, "resume: there is no such stream");
    pass(200);
    const from = isGreeted ? 10 : 5;
    assert.equal(last().query.start_ts, `${100 + from / 10}`);
    last().greet();
    pass(2000);
    assert.deepEqual(last().audio, bytesOf(Array.from({ length: 20 - from }, (_, n) => frameOf(n + from))));
    assert.deepEqual(seen.over, []);
  });
}

const ENDINGS = [
  // code, whether it is restored, whether the service accepted it, audio that stays
  [1000, false, true, 0],
  [4034, false, true, 0],
  [0, false, true, 1.5],
  [4035, false, true, 1.5],
  [4001, false, false, 0],
  [4029, true, false, 1.5],
  [4002, true, false, 0],
  [4009, false, true, 0],
];

for (const [code, isRestored, isAccepted, stays] of ENDINGS) {
  const how = `${isRestored ? "restored" : "new"}, ${isAccepted ? "accepted" : "refused"}`;
  test(`after ${code} (${how}), ${stays} s of audio stay for another attempt`, () => {
    const journal = new Notes();
    const parts = Array.from({ length: 20 }, (_, n) => new Uint8Array(frameOf(n).buffer));
    const stored = { key: null, base: 0, finals: 0, settled: 0, start: 0, position: 0, parts };
    const { stream } = started({ journal, restored: isRestored ? { ...stored, settled: 16_000, base: 16_000 } : null });
    if (isAccepted) last().greet();
    if (!isRestored) speak(stream, 0, 20);
    if (isAccepted) {
      last().say({ type: "received", position: 64_000 });
      last().say(final(0.5));
    }
    if (code) last().end(code);
    else stream.abandon();
    const [position, end] = journal.closed;
    assert.equal((end - position) / 32_000, stays);
  });
}

test("the last partial of a service that sends no finals is kept as one", () => {
  const { stream, seen } = started();
  last().greet();
  speak(stream, 0, 5);
  last().say({ type: "partial", ts: 0, end_ts: 0.4, elements: [{ type: "text", value: "and" }] });
  stream.end();
  last().say({ type: "received", position: 16_000 });
  last().end(1000, "End of input. Closing");
  assert.deepEqual(seen.messages, ["partial", "final"]);
});
