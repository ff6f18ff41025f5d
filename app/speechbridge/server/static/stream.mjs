// One stream of audio and its transcript, over any number of connections. Pure, except for its WebSocket and timers.
//
// The counterpart of speechbridge/client/resumable.py; speechbridge/protocol/resume.py describes the protocol. A
// microphone cannot wait, and a person wants the captions back. Therefore:
//
// - It keeps audio until a final has settled it, not only until the service has acknowledged it. If the service no
//   longer knows the stream (it restarted, or the page was away for too long), the page starts a new stream with
//   `start_ts` and sends all audio since the last final.
// - It never gives up while audio arrives. When the replay buffer is full, the oldest audio is evicted and its length
//   is reported.
//
// A journal stores the audio that is not settled. A stream made from it after a reload or a crash resumes like one
// whose connection was lost.

import { asFinal, hypothesis } from "./captions.mjs";
import { ABNORMAL, COME_BACK, NEW_STREAM, RECONNECT, TOO_OFTEN, UNKNOWN_STREAM } from "./codes.mjs";
import { NO_JOURNAL } from "./journal.mjs";
import { Ring } from "./ring.mjs";

const PATH = "/speechtotext/v1/stream";
export const BYTES_PER_SECOND = 32000;
const ROOM = 2 ** 21; // bytes in the replay buffer: 65 s. The service forgets a stream after 60 s
const PIECE = 3200; // bytes in one message: 100 ms. Small messages get through even when connections break often
const PACE = 8; // times real time: the highest rate at which buffered audio is sent
const BURST = 16; // pieces that may be sent at once
const HIGH_WATERMARK = 2 ** 17; // bytes that the browser may queue in a socket; the rest waits in the replay buffer
const OPEN = 1; // WebSocket.OPEN
const OPEN_TIMEOUT = 10_000; // ms for the handshake and the `connected` message
const QUEUED = 60_000; // ms without a message in the service's queue: the connection may be dead, its place is kept
const STALLED = 8_000; // ms without a message while audio is unacknowledged: the connection is dead
const UNACKNOWLEDGED = 16_000; // bytes that are normally unacknowledged: the service acknowledges every 8,000
const LAST_WORDS = 40_000; // ms without a message, after the end; the service waits 30 s for its recognizer
const FIRST_PAUSE = 100; // ms before the first retry, doubled for each further one, with full jitter
const LONGEST_PAUSE = 3_000;
const TOO_OFTEN_PAUSE = 10_000; // after "too many handshakes a minute"
const DRAINED = [1000, 4034]; // the service has transcribed everything that it acknowledged
const GIVEN_UP = [1007, 1008, 1009, 4002, 4009]; // the same audio would be rejected again, or another tab has it
const REPEATS = 3; // the same close this often in a row, without a final in between, is permanent

export class ResumableStream {
  #url;
  #seconds; // of the transcript, where this stream begins
  #language;
  #accessKey;
  #share;
  #on;
  #ring;
  // Positions are bytes since the stream's beginning.
  #sent = 0;
  #acknowledged = 0; // the service has everything before it
  #settled = 0; // finals cover everything before it
  // The stream at the service. Without a resume key the next connection starts a new one.
  #key = null;
  #base = 0; // position of its first byte
  #finals = 0;
  #ticket = null; // keeps the place in the service's queue, while the stream waits there
  // The connection.
  #socket = null;
  #isConnected = false; // the service has sent `connected`
  #hasSentEnd = false;
  #failuresInARow = 0; // connections since the service last acknowledged audio
  #repeated = { code: 0, reason: "", times: 0 };
  #allowance = BURST; // pieces
  #countedAt = 0;
  #journal;
  #isRestored;
  #isResuming = false; // this connection was made with a resume key
  #partial = null; // the newest, if no final has replaced it
  #hasBegun = false;
  #isEnded = false;
  #isOver = false;
  #timers = {}; // by their purpose

  /**
   * `url` is the service's address, ws or wss. `seconds` is the position in the transcript where the audio begins. An
   * empty `language` means the service's default. With `share`, others may read the captions.
   *
   * Callbacks in `on`:
   * - `state(name)`: "live" or "reconnecting"; or "queued", with `{ place, wait_seconds }`.
   * - `message(message)`: each partial and final, as captions.mjs parses them. A final also has `begin`, the second of
   *   the transcript at which its stream began.
   * - `lost(seconds)`: so much audio was evicted before the service had it.
   * - `shared(token)`: the token with which others can read the captions.
   * - `over({ code, reason }, seconds)`, once, at the end: the service's close, or code 0 if there was none; and the
   *   seconds of audio that are not transcribed.
   *
   * `journal` stores the stream (journal.mjs). `restored` is an earlier stream that it has stored: its progress, and
   * its audio in `position` and `parts`.
   */
  constructor(url, { on, seconds = 0, language = "", accessKey = "", share = false, room = ROOM, journal = NO_JOURNAL, restored = null }) {
    this.#url = url;
    this.#on = on;
    this.#seconds = seconds;
    this.#language = language;
    this.#accessKey = accessKey;
    this.#share = share;
    this.#journal = journal;
    this.#isRestored = restored !== null;
    this.#ring = new Ring(room, restored?.position);
    if (restored) this.#restore(restored);
    this.#connect();
  }

  /** Whether the service has ever accepted this stream. */
  get hasBegun() {
    return this.#hasBegun;
  }

  /** Seconds of audio that the service has not acknowledged. */
  get held() {
    return (this.#ring.end - Math.max(this.#acknowledged, this.#ring.start)) / BYTES_PER_SECOND;
  }

  /** Send samples (Int16Array). Never waits. */
  send(samples) {
    if (this.#isEnded || this.#isOver) return;
    // Browsers delay the timers of hidden tabs by up to a minute, but audio still arrives: run the timers that are due.
    for (const { due, act } of Object.values(this.#timers)) if (performance.now() >= due) act();
    const start = Math.max(this.#ring.start, this.#acknowledged);
    const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
    this.#journal.audio(this.#ring.end, bytes, this.#ring.start);
    this.#ring.append(bytes);
    // Audio that the service acknowledged but did not settle for as long as the buffer lasts was not speech, so its
    // eviction is not reported.
    const lost = this.#ring.start - start;
    if (lost > 0) this.#on.lost(lost / BYTES_PER_SECOND);
    this.#flush();
  }

  /** End the input. The last words still arrive, then the stream is over. */
  end() {
    if (this.#isEnded || this.#isOver) return;
    this.#isEnded = true;
    this.#awaitLastWords();
    this.#flush();
  }

  /** Close now, without waiting for the last words. */
  abandon() {
    this.#finish({ code: 0, reason: "" });
  }

  /** If a retry is pending, retry now: the browser reports that the network is back. */
  retryNow() {
    if (this.#timers.retry) this.#connect();
  }

  /** Wait for the last words as long as messages arrive. */
  #awaitLastWords() {
    const close = { code: 0, reason: "timed out waiting for the last words" };
    this.#later("lastWords", LAST_WORDS, () => this.#finish(close));
  }

  #restore({ key, base, finals, settled, start, parts }) {
    for (const bytes of parts) this.#ring.append(bytes);
    this.#ring.release(start);
    this.#key = key;
    this.#base = base;
    this.#finals = finals;
    this.#settled = settled;
    this.#sent = this.#acknowledged = Math.max(base, this.#ring.start);
  }

  #connect() {
    this.#cancel("retry");
    this.#isResuming = this.#key !== null;
    if (!this.#key) this.#base = this.#sent = this.#acknowledged = Math.max(this.#base, this.#ring.start);
    const query = this.#key
      ? { resume: this.#key, finals: this.#finals }
      : {
          content_type: "audio/x-raw;layout=interleaved;rate=16000;format=S16LE;channels=1",
          detailed_partials: true,
          start_ts: this.#seconds + this.#base / BYTES_PER_SECOND,
          resume: true,
          queue: true,
          ...(this.#share && { share: true }),
          ...(this.#ticket && { ticket: this.#ticket }),
          ...(this.#language && { language: this.#language }),
        };
    const protocols = this.#accessKey ? ["speechbridge", `speechbridge.key.${this.#accessKey}`] : [];
    try {
      this.#socket = new WebSocket(`${this.#url}${PATH}?${new URLSearchParams(query)}`, protocols);
    } catch {
      // A SyntaxError: the key has characters that a handshake cannot carry, so it is not a valid key.
      this.#later("retry", 0, () =>
        this.#finish({ code: 4001, reason: "an API key has only letters, digits, - and _" }),
      );
      return;
    }
    this.#socket.onmessage = ({ data }) => this.#receive(read(data));
    this.#socket.onclose = ({ code, reason }) => this.#closed({ code, reason });
    this.#later("watch", OPEN_TIMEOUT, () => this.#reconnect());
  }

  #receive(message) {
    if (message.type === "queued") {
      this.#ticket = message.ticket;
      this.#on.state("queued", message);
      this.#later("watch", QUEUED, () => this.#reconnect());
      return;
    }
    if (message.type === "connected") {
      this.#connected(message);
    } else if (message.type === "received") {
      this.#acknowledge(this.#base + message.position);
    } else if (message.type === "final") {
      this.#finals++;
      this.#settle(message.end_ts);
      this.#final(hypothesis(message));
    } else if (message.type === "partial") {
      this.#partial = hypothesis(message);
      this.#on.message(this.#partial);
    }
    if (this.#isOver) return;
    if (this.#isEnded) this.#awaitLastWords();
    this.#watch();
    this.#flush();
  }

  #connected({ resume, position, read }) {
    if (!resume) {
      this.#finish({ code: 0, reason: "this service cannot resume streams: it is older than this page" });
      return;
    }
    this.#key = resume;
    this.#ticket = null;
    this.#isConnected = this.#hasBegun = true;
    this.#hasSentEnd = false;
    this.#sent = this.#base + position;
    this.#acknowledge(this.#sent);
    this.#journal.progress(this.#progress);
    if (read) this.#on.shared(read);
    this.#on.state("live");
  }

  #acknowledge(position) {
    if (position > this.#acknowledged) this.#failuresInARow = 0;
    this.#acknowledged = position;
    this.#ring.release(Math.min(this.#acknowledged, this.#settled));
  }

  #settle(seconds) {
    if (!Number.isFinite(seconds)) return;
    const samples = Math.round(((seconds - this.#seconds) * BYTES_PER_SECOND) / 2);
    this.#settled = Math.max(this.#settled, Math.min(2 * samples, this.#sent));
    this.#repeated.times = 0;
    this.#ring.release(Math.min(this.#acknowledged, this.#settled));
  }

  #final(message) {
    const final = { ...message, begin: this.#seconds };
    this.#partial = null;
    this.#on.message(final);
    // A final that is acknowledged is never sent again, so it must be stored first.
    this.#journal.final(final, this.#progress, this.#acknowledgement());
  }

  get #progress() {
    const [key, base, finals, settled] = [this.#key, this.#base, this.#finals, this.#settled];
    return { key, base, finals, settled, start: this.#ring.start };
  }

  /** A function that acknowledges the finals until now. It does nothing after a reconnect, which acknowledges them. */
  #acknowledgement() {
    const [socket, finals] = [this.#socket, this.#finals];
    return () => {
      if (socket === this.#socket && this.#canSend) socket.send(JSON.stringify({ type: "received", finals }));
    };
  }

  get #canSend() {
    return this.#isConnected && !(this.#socket.readyState > OPEN); // it may be closing, which is reported later
  }

  /** Send the audio that the service does not have; then EOS, if the input has ended. */
  #flush() {
    if (!this.#canSend) return;
    const now = Date.now();
    const earned = (Math.max(0, now - this.#countedAt) * PACE * BYTES_PER_SECOND) / 1000 / PIECE;
    this.#allowance = Math.min(BURST, this.#allowance + earned);
    this.#countedAt = now;
    while (this.#sent < this.#ring.end && this.#allowance >= 1 && this.#socket.bufferedAmount < HIGH_WATERMARK) {
      const evicted = this.#ring.start - this.#sent; // silence replaces it, so timestamps stay correct
      const piece = evicted > 0 ? new Uint8Array(Math.min(PIECE, evicted)) : this.#ring.read(this.#sent, PIECE);
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
      if (this.#sent - this.#acknowledged > UNACKNOWLEDGED) this.#reconnect();
      else this.#watch();
    });
  }

  /** Treat the connection as lost. A dead connection reports nothing, not even its close. */
  #reconnect() {
    this.#drop();
    this.#closed({ code: ABNORMAL, reason: "" });
  }

  #drop() {
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #closed(close) {
    this.#isConnected = false;
    this.#cancel("watch");
    this.#cancel("flush");
    const { code, reason, times } = this.#repeated;
    const isSame = close.code === code && close.reason === reason && code !== ABNORMAL;
    this.#repeated = { ...close, times: isSame ? times + 1 : 1 };
    const isAsked = COME_BACK.includes(close.code);
    const isLost = isAsked
      ? this.#hasBegun || this.#ticket !== null
      : RECONNECT.includes(close.code) && this.#repeated.times < REPEATS;
    const isUnknown = close.code === UNKNOWN_STREAM && this.#isResuming;
    const isRetryable = NEW_STREAM.includes(close.code) && this.#hasBegun;
    if (!isLost && !isUnknown && !isRetryable) {
      this.#finish(close);
      return;
    }
    if (!isLost || (!isAsked && this.#repeated.times > 1)) this.#startNewStream();
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#failuresInARow++);
    const pause = close.code === TOO_OFTEN ? TOO_OFTEN_PAUSE : Math.random() * longest;
    this.#later("retry", pause, () => this.#connect());
    this.#on.state("reconnecting");
  }

  /** Let the next connection start a new stream, from the first audio that is not settled. */
  #startNewStream() {
    this.#key = null;
    this.#finals = 0;
    this.#base = this.#settled;
    this.#journal.progress(this.#progress);
  }

  #finish(close) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#isConnected = false;
    for (const name of Object.keys(this.#timers)) this.#cancel(name);
    this.#drop();
    const transcribed = this.#transcribed(close);
    // Rev.ai sends a final for every partial. Other SDKs may not: then the last partial is all there is.
    if (this.#partial?.elements.length && transcribed >= this.#ring.end) this.#final(asFinal(this.#partial));
    this.#journal.close(transcribed, this.#ring.end);
    this.#on.over(close, (this.#ring.end - transcribed) / BYTES_PER_SECOND);
  }

  /** The position up to which all audio is transcribed, or never can be, now that the stream is over. */
  #transcribed({ code }) {
    if (GIVEN_UP.includes(code) || (!this.#hasBegun && !this.#isRestored && code)) return this.#ring.end;
    return DRAINED.includes(code) ? this.#acknowledged : Math.max(this.#settled, this.#ring.start);
  }

  #later(name, ms, act) {
    this.#cancel(name);
    const once = () => {
      this.#cancel(name);
      act();
    };
    this.#timers[name] = { act: once, due: performance.now() + ms, timer: setTimeout(once, ms) };
  }

  #cancel(name) {
    clearTimeout(this.#timers[name]?.timer);
    delete this.#timers[name];
  }
}

/** Parse a message. Anything outside the protocol, such as plain text from another SDK, is shown as it is. */
function read(data) {
  try {
    const message = JSON.parse(data);
    if (message?.type) return message;
  } catch {
    // Not JSON: plain text.
  }
  return { type: "partial", elements: [{ type: "text", value: data }] };
}
