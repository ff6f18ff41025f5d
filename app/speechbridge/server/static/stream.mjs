// One stream of audio and its transcript, through any number of connections. Pure but for its WebSocket and timers.
//
// The sibling of speechbridge/client/resumable.py, and of speechbridge/server/resumable.py at the other end, where the protocol stands. Two things differ,
// because a microphone does not wait and a person wants captions again:
//
// - Audio is kept until a final has covered it, not only until the service has it. So a service that has forgotten the
//   stream (it was restarted, or we were away for too long) is given a new one, with `start_ts`, from the last final on.
// - While audio still comes it never gives up. When the ring is full the oldest audio goes, and how much is said.

import { Ring } from "./ring.mjs";

const PATH = "/speechtotext/v1/stream";
const BYTES = 32000; // a second
const ROOM = 2 ** 21; // bytes: 65 s. The service forgets a stream after 60 s
const PIECE = 3200; // bytes in one message: 100 ms. A wire that is cut often lets small ones through
const PACE = 8; // times real time, at most, at which what was held is sent
const BURST = 16; // pieces that may go at once
const BUFFERED = 2 ** 17; // bytes the browser may hold, unsent; the rest waits in the ring
const OPEN = 10_000; // ms for the handshake and the greeting
const STALLED = 8_000; // ms without a word, though audio waits to be confirmed: the connection is dead
const UNCONFIRMED = 16_000; // bytes that may wait so for ever: it confirms every 8,000
const LAST_WORDS = 40_000; // ms after the end; a service waits 30 s for its recognizer
const FIRST_PAUSE = 100; // ms between two tries, doubled each time, with full jitter
const LONGEST_PAUSE = 3_000;
const CROWDED_PAUSE = 10_000; // after "too many handshakes a minute"
const REPEATS = 3; // a close that comes so often in a row, with no final in between, is the service's last word

const ABNORMAL = 1006;
const CUTS = [ABNORMAL, 1001, 1005, 1011, 1012, 1013, 1014]; // no close frame, or a proxy's, a restart's
const LATER = [4010, 4013, 4029, 4030, 4031]; // the stream is over, and another may begin when there is room
const FORGOTTEN = 4002; // in answer to a key: there is no such stream
const CROWDED = 4031; // too many handshakes a minute

export class ResumableStream {
  #url;
  #seconds; // of the transcript, where this stream begins
  #accessKey;
  #on;
  #ring;
  // Positions are bytes since the stream's beginning.
  #sent = 0;
  #received = 0; // the service has it
  #settled = 0; // a final covers it
  // The service's line; without a key the next connection begins a new one.
  #key = null;
  #base = 0; // its first byte's position
  #finals = 0;
  // The connection.
  #socket = null;
  #isGreeted = false;
  #hasSentEnd = false;
  #failures_in_a_row = 0; // of them, since the service received something
  #repeated = { code: 0, reason: "", times: 0 };
  #allowance = BURST; // pieces
  #countedAt = 0;
  #hasBegun = false;
  #isEnded = false;
  #isOver = false;
  #timers = {}; // by what they are for

  /**
   * `url` is the service's, ws or wss; `seconds` is where in the transcript the audio begins. `on` is told:
   * `state(name)`, live or reconnecting; `heard(message)`, each partial and final; `lost(seconds)`, whenever audio had
   * to go unheard; at last, once, `over({ code, reason })` with the service's close, or 0 where there was none.
   */
  constructor(url, { on, seconds = 0, accessKey = "", room = ROOM }) {
    this.#url = url;
    this.#on = on;
    this.#seconds = seconds;
    this.#accessKey = accessKey;
    this.#ring = new Ring(room);
    this.#connect();
  }

  /** Seconds of audio that the service does not have. */
  get held() {
    return (this.#ring.end - Math.max(this.#received, this.#ring.start)) / BYTES;
  }

  /** Send samples (Int16Array). Never waits. */
  send(samples) {
    if (this.#isEnded || this.#isOver) return;
    // In a hidden tab timers are late by up to a minute; sound is not.
    for (const { due, act } of Object.values(this.#timers)) if (performance.now() >= due) act();
    const start = Math.max(this.#ring.start, this.#received);
    this.#ring.append(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength));
    // What the service has got, but not settled in all the time that the ring holds, was no speech: it may go unsaid.
    const lost = this.#ring.start - start;
    if (lost > 0) this.#on.lost(lost / BYTES);
    this.#flush();
  }

  /** Say that no more audio comes. The last words still do; then it is over. */
  end() {
    if (this.#isEnded || this.#isOver) return;
    this.#isEnded = true;
    this.#later("farewell", LAST_WORDS, () => this.#finish({ code: 0, reason: "no last words came" }));
    this.#flush();
  }

  /** Leave at once, without the last words. */
  abandon() {
    this.#finish({ code: 0, reason: "" });
  }

  /** If it waits to try again, do so now: the network is said to be back. */
  hurry() {
    if (this.#timers.retry) this.#connect();
  }

  #connect() {
    this.#never("retry");
    if (!this.#key) this.#base = this.#sent = this.#received = Math.max(this.#base, this.#ring.start);
    const query = this.#key
      ? { resume: this.#key, finals: this.#finals }
      : {
          content_type: "audio/x-raw;layout=interleaved;rate=16000;format=S16LE;channels=1",
          detailed_partials: true,
          start_ts: this.#seconds + this.#base / BYTES,
          resume: true,
        };
    const protocols = this.#accessKey ? ["speechbridge", `speechbridge.key.${this.#accessKey}`] : [];
    try {
      this.#socket = new WebSocket(`${this.#url}${PATH}?${new URLSearchParams(query)}`, protocols);
    } catch {
      // A SyntaxError: characters that no handshake can carry, so it is nobody's key.
      this.#later("retry", 0, () => this.#finish({ code: 4001, reason: "no key has such characters" }));
      return;
    }
    this.#socket.onmessage = ({ data }) => this.#take(read(data));
    this.#socket.onclose = ({ code, reason }) => this.#closed({ code, reason });
    this.#later("watch", OPEN, () => this.#cut());
  }

  #take(message) {
    if (message.type === "connected") {
      this.#greet(message);
    } else if (message.type === "received") {
      this.#receive(this.#base + message.position);
    } else if (message.type === "final") {
      this.#finals++;
      this.#socket.send(JSON.stringify({ type: "received", finals: this.#finals }));
      this.#settle(message.end_ts);
      this.#on.heard(message);
    } else if (message.type === "partial") {
      this.#on.heard(message);
    }
    if (this.#isOver) return;
    this.#watch();
    this.#flush();
  }

  #greet({ resume, position }) {
    if (!resume) {
      this.#finish({ code: 0, reason: "this service cannot resume streams: it is older than this page" });
      return;
    }
    this.#key = resume;
    this.#isGreeted = this.#hasBegun = true;
    this.#hasSentEnd = false;
    this.#sent = this.#base + position;
    this.#receive(this.#sent);
    this.#on.state("live");
  }

  #receive(position) {
    if (position > this.#received) this.#failures_in_a_row = 0;
    this.#received = position;
    this.#ring.release(Math.min(this.#received, this.#settled));
  }

  #settle(seconds) {
    if (!Number.isFinite(seconds)) return;
    const samples = Math.round(((seconds - this.#seconds) * BYTES) / 2);
    this.#settled = Math.max(this.#settled, Math.min(2 * samples, this.#sent));
    this.#repeated.times = 0;
    this.#ring.release(Math.min(this.#received, this.#settled));
  }

  /** Send what the service has not got; then that it is all, if it is. */
  #flush() {
    if (!this.#isGreeted) return;
    const now = Date.now();
    const earned = (Math.max(0, now - this.#countedAt) * PACE * BYTES) / 1000 / PIECE;
    this.#allowance = Math.min(BURST, this.#allowance + earned);
    this.#countedAt = now;
    while (this.#sent < this.#ring.end && this.#allowance >= 1 && this.#socket.bufferedAmount < BUFFERED) {
      const gone = this.#ring.start - this.#sent; // silence stands for it, so that times stay true
      const piece = gone > 0 ? new Uint8Array(Math.min(PIECE, gone)) : this.#ring.read(this.#sent, PIECE);
      this.#socket.send(piece);
      this.#sent += piece.length;
      this.#allowance--;
    }
    if (this.#sent < this.#ring.end) {
      this.#later("flush", 50, () => this.#flush());
    } else if (this.#isEnded && !this.#hasSentEnd) {
      this.#hasSentEnd = true;
      this.#socket.send("EOS");
    }
  }

  #watch() {
    this.#later("watch", STALLED, () => {
      if (this.#sent - this.#received > UNCONFIRMED) this.#cut();
      else this.#watch();
    });
  }

  /** Take the connection for cut: it says nothing any more, its end least of all. */
  #cut() {
    this.#drop();
    this.#closed({ code: ABNORMAL, reason: "" });
  }

  #drop() {
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #closed(close) {
    const wasGreeted = this.#isGreeted;
    this.#isGreeted = false;
    this.#never("watch");
    this.#never("flush");
    const { code, reason, times } = this.#repeated;
    const again = close.code === code && close.reason === reason && code !== ABNORMAL;
    this.#repeated = { ...close, times: again ? times + 1 : 1 };
    const isCut = CUTS.includes(close.code) && this.#repeated.times < REPEATS;
    const isForgotten = close.code === FORGOTTEN && this.#key && !wasGreeted;
    const mayPass = LATER.includes(close.code) && this.#hasBegun;
    if (!isCut && !isForgotten && !mayPass) {
      this.#finish(close);
      return;
    }
    if (!isCut || this.#repeated.times > 1) this.#beginAnew();
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#failures_in_a_row++);
    this.#later("retry", close.code === CROWDED ? CROWDED_PAUSE : Math.random() * longest, () => this.#connect());
    this.#on.state("reconnecting");
  }

  /** Have the next connection begin a new line, with what no final has covered. */
  #beginAnew() {
    this.#key = null;
    this.#finals = 0;
    this.#base = this.#settled;
  }

  #finish(close) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#isGreeted = false;
    for (const name of Object.keys(this.#timers)) this.#never(name);
    this.#drop();
    this.#on.over(close);
  }

  #later(name, ms, act) {
    this.#never(name);
    const once = () => {
      this.#never(name);
      act();
    };
    this.#timers[name] = { act: once, due: performance.now() + ms, timer: setTimeout(once, ms) };
  }

  #never(name) {
    clearTimeout(this.#timers[name]?.timer);
    delete this.#timers[name];
  }
}

/** Read a message. What is none of the protocol's, from an SDK that says plain words, is shown as it is. */
function read(data) {
  try {
    const message = JSON.parse(data);
    if (message?.type) return message;
  } catch {
    // No JSON: words.
  }
  return { type: "partial", elements: [{ type: "text", value: data }] };
}
