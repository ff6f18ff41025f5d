import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { ResumableStream } from "../../../app/speechbridge/server/static/stream.mjs";

const FRAME = 1600; // samples: 100 ms, 3,200 bytes

let sockets;

/** The browser's WebSocket, with the test for a service. */
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

function began(options = {}) {
  const told = { states: [], heard: [], lost: [], over: [] };
  const on = {
    state: (state) => told.states.push(state),
    heard: (message) => told.heard.push(message.type),
    lost: (seconds) => told.lost.push(seconds),
    over: ({ code }) => told.over.push(code),
  };
  return { stream: new ResumableStream("ws://here", { on, ...options }), told };
}

const bytesOf = (frames) => frames.flatMap((frame) => [...new Uint8Array(frame.buffer)]);
const frameOf = (n) => Int16Array.from({ length: FRAME }, (_, at) => n * 100 + (at % 97));
const last = () => sockets.at(-1);
const final = (end_ts) => ({ type: "final", ts: 0, end_ts, elements: [] });

/** Let time pass, in steps: node's mocked clock stands at a tick's end for all that is due within it. */
function pass(ms) {
  for (let left = ms; left > 0; left -= 50) mock.timers.tick(Math.min(50, left));
}

/** Feed as a microphone does: a frame every 100 ms. */
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

test("what came before the greeting is sent after it, and EOS when it is all", () => {
  const { stream, told } = began();
  speak(stream, 0, 3);
  assert.deepEqual(last().audio, []);
  last().greet();
  speak(stream, 3, 5);
  stream.end();
  assert.deepEqual(last().audio, bytesOf([0, 1, 2, 3, 4].map(frameOf)));
  assert.deepEqual(last().texts, ["EOS"]);
  last().end(1000, "End of input. Closing");
  assert.deepEqual(told, { states: ["live"], heard: [], lost: [], over: [1000] });
});

test("it asks for raw audio, detailed partials, a line to come back to, and times that run on", () => {
  began({ seconds: 12.5 });
  assert.equal(last().url.pathname, "/speechtotext/v1/stream");
  assert.deepEqual(last().query, {
    content_type: "audio/x-raw;layout=interleaved;rate=16000;format=S16LE;channels=1",
    detailed_partials: "true",
    start_ts: "12.5",
    resume: "true",
  });
});

test("cut off, it comes back with its key, and goes on from where the service is", () => {
  const { stream, told } = began();
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
  assert.deepEqual(told.states, ["live", "reconnecting", "live"]);
});

test("a service that has forgotten the stream is given a new one, from the last final on", () => {
  const { stream, told } = began({ seconds: 100 });
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
  assert.deepEqual(told.over, []);
});

for (const code of [4010, 4013, 4029, 4030, 4031]) {
  test(`${code} in the middle begins a new line when it may, at the beginning it is told`, () => {
    const { stream, told } = began();
    last().greet();
    speak(stream, 0, 10);
    last().say(final(0.5));
    last().end(code);
    pass(10_001);
    assert.equal(last().query.start_ts, "0.5");
    assert.deepEqual(told.over, []);

    const other = began();
    last().end(code);
    assert.deepEqual(other.told.over, [code]);
  });
}

for (const code of [1000, 1007, 4001, 4002, 4003, 4008, 4009, 4032, 4034, 4035, 4036]) {
  test(`${code} is the end of it`, () => {
    const { stream, told } = began();
    last().greet();
    speak(stream, 0, 3);
    last().end(code);
    speak(stream, 3, 100);
    assert.equal(sockets.length, 1);
    assert.deepEqual(told.over, [code]);
  });
}

test("what may be a cut, three times in a row with no final in between, is the service's last word", () => {
  const { stream, told } = began();
  for (let n = 0; n < 3; n++) {
    assert.deepEqual(told.over, []);
    last().greet();
    speak(stream, n * 50, n * 50 + 50);
    last().end(1011, "the speech SDK failed");
    pass(5000);
  }
  assert.deepEqual(told.over, [1011]);
  assert.equal(sockets.at(-1).query.resume, "true"); // the last time with a line of its own
});

test("a network that is away for long never ends it, and what had to go is told", () => {
  const { stream, told } = began();
  last().greet();
  speak(stream, 0, 10);
  last().say({ type: "received", position: 32_000 });
  last().end(1006);
  for (let n = 10; n < 1010; n++) {
    speak(stream, n, n + 1);
    last().end(1006);
  }
  const lost = told.lost.reduce((sum, seconds) => sum + seconds, 0);
  assert.ok(Math.abs(lost + 2 ** 21 / 32_000 - 100) < 1e-6, `${lost}`);
  assert.equal(Math.round(stream.held), Math.round(2 ** 21 / 32_000));
  pass(5000);
  last().greet(32_000);
  for (let n = 0; n < 20; n++) {
    pass(1000);
    last().say({ type: "received", position: 32_000 + last().audio.length });
  }
  const silent = last().audio.findIndex(Boolean);
  assert.ok(
    Math.abs(silent / 32_000 - lost) < 0.1,
    `silence stands for ${lost} s that are lost, not ${silent / 32_000} s`,
  );
  assert.equal(last().audio.length, 100 * 32_000);
  assert.deepEqual(told.over, []);
});

test("what the service has heard without a final may go, and is not called lost", () => {
  const { stream, told } = began();
  last().greet();
  for (let n = 0; n < 1500; n++) {
    speak(stream, n, n + 1);
    last().say({ type: "received", position: (n + 1) * 3200 });
  }
  assert.deepEqual(told.lost, []);
});

test("a wire that is dead without a word is noticed", () => {
  const { stream, told } = began();
  last().greet();
  speak(stream, 0, 100);
  assert.deepEqual(told.states, ["live", "reconnecting"]);
  assert.ok(sockets[0].isClosed);
  assert.equal(last().query.resume, "KEY");
});

test("silence is no dead wire while nothing waits to be confirmed", () => {
  const { stream, told } = began();
  last().greet();
  speak(stream, 0, 5);
  last().say({ type: "received", position: 16_000 });
  pass(60_000);
  assert.deepEqual(told.states, ["live"]);
});

test("in a hidden tab, whose timers sleep, the sound wakes what is due", () => {
  const { stream } = began();
  last().greet();
  last().end(1006);
  const now = performance.now();
  mock.method(performance, "now", () => now + 5000);
  stream.send(frameOf(0));
  assert.equal(sockets.length, 2);
});

test("a handshake that is never answered is tried again", () => {
  began();
  pass(13_000);
  assert.equal(sockets.length, 2);
});

test("what was held is sent at a bounded pace", () => {
  const { stream } = began();
  speak(stream, 0, 300);
  last().greet();
  pass(1000);
  const sent = last().audio.length / 3200;
  assert.ok(sent >= 80 && sent <= 16 + 80 + 4, `${sent}`);
});

test("a browser that cannot send is not given more", () => {
  const { stream } = began();
  last().greet();
  last().bufferedAmount = 2 ** 17;
  speak(stream, 0, 50);
  assert.deepEqual(last().audio, []);
  last().bufferedAmount = 0;
  speak(stream, 50, 60);
  assert.equal(last().audio.length, 60 * 3200);
});

test("a key goes with every handshake, and without one nothing does", () => {
  began();
  assert.deepEqual(last().protocols, []);
  began({ accessKey: "secret" });
  last().end(1006);
  pass(5000);
  assert.deepEqual(last().protocols, ["speechbridge", "speechbridge.key.secret"]);
});

test("a key that cannot be sent is refused as the service would", () => {
  const { told } = began({ accessKey: "not a key" });
  pass(1);
  assert.deepEqual(told.over, [4001]);
});

test("the network's return ends the pause", () => {
  const { stream } = began();
  last().greet();
  last().end(1006);
  stream.hurry();
  assert.equal(sockets.length, 2);
  stream.hurry();
  assert.equal(sockets.length, 2);
});

test("last words that never come are not awaited for ever, nor is a network", () => {
  const { stream, told } = began();
  last().greet();
  speak(stream, 0, 1);
  stream.end();
  last().say({ type: "received", position: 3200 });
  pass(41_000);
  assert.deepEqual(told.over, [0]);
});

test("an old service, which knows no resuming, is told", () => {
  const { told } = began();
  last().say({ type: "connected", id: "1" });
  assert.deepEqual(told.over, [0]);
  assert.ok(last().isClosed);
});

test("plain words of another SDK are shown, and break nothing", () => {
  const { told } = began();
  last().greet();
  last().onmessage({ data: "Get b'one'" });
  last().say("words");
  last().say({ type: "final" });
  last().say({ type: "received", position: 3200 });
  assert.deepEqual(told.heard, ["partial", "partial", "final"]);
});

test("abandoned, it closes and says no more", () => {
  const { stream, told } = began();
  last().greet();
  stream.abandon();
  assert.ok(last().isClosed);
  last().say(final(1));
  last().end(1006);
  pass(60_000);
  assert.deepEqual(told, { states: ["live"], heard: [], lost: [], over: [0] });
});
