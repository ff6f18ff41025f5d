// One recording, from Start to the last words: an audio source, a stream, and the state of both.

import { hypothesis } from "./captions.mjs";
import { CaptureClock, Latency } from "./latency.mjs";
import { open } from "./sound.mjs";
import { ResumableStream } from "./stream.mjs";
import { Problem, closing, problem } from "./words.mjs";

const RATE = 16000;
const SILENT = 5_000; // ms of silence before the page reports it
const QUIET = 0.001; // of full scale, 60 dB down: every open microphone in a room is louder
const AWAY = 5_000; // ms without the service before the page reports it
const DOUBLE_CLICK = 1_000; // ms in which a second stop is ignored

export class Recording {
  #service;
  #accessKey;
  #on;
  #seconds; // length of the transcript
  #kind;
  #sound = null;
  #stream = null;
  #clock;
  #latency;
  #link = "connecting"; // or live, reconnecting
  #linkedAt; // when that last changed
  #soundAt; // when there was last a sound
  #isInterrupted = false;
  #endedAt = null;
  #lost = 0;
  #timer = setInterval(() => this.#report(), 500);

  /**
   * `service` is its address, ws or wss; `seconds` is the position in the transcript where the audio begins. Callbacks in
   * `on`: `state(name, held, lost)`, often, with the seconds of audio that are buffered or were evicted;
   * `frame(levels, seconds)`; `message(message)`; `latency(ms)`; `notify(notice)`; `mention(notice)`, for a notice that must
   * not replace another; `withdraw(key)`, when a notice no longer applies; once, at the end, `over(state)`.
   */
  constructor(service, { seconds, accessKey, on }) {
    this.#service = service;
    this.#seconds = seconds;
    this.#accessKey = accessKey;
    this.#on = on;
  }

  /** Start, from a click or key handler. Returns whether it runs; if not, a notice says why. */
  async begin(choice) {
    this.#kind = choice.kind;
    this.#report();
    const early = []; // frames that arrive before there is a stream
    let take = (frame) => early.push(frame);
    try {
      this.#sound = await open(choice, {
        frame: (frame) => take(frame),
        interrupted: (is) => this.#interrupted(is),
        ended: (ending) => this.stop(ending),
      });
    } catch (error) {
      if (this.#isEnding) return false; // stopped while the browser asked for permission
      this.#over("stopped");
      if (!(error instanceof Problem)) throw error;
      this.#on.notify(problem(error.message, location));
      return false;
    }
    if (this.#isEnding) {
      this.#sound.stop();
      return false;
    }
    this.#clock = new CaptureClock(this.#sound.delay);
    this.#latency = new Latency(this.#clock);
    this.#soundAt = this.#linkedAt = performance.now();
    this.#stream = new ResumableStream(this.#service, {
      seconds: this.#seconds,
      accessKey: this.#accessKey,
      on: {
        state: (link) => this.#linkChanged(link),
        message: (message) => this.#show(hypothesis(message)),
        lost: (seconds) => (this.#lost += seconds),
        over: (close) => this.#closed(close),
      },
    });
    take = (frame) => this.#frame(frame);
    early.forEach(take);
    this.#report();
    return true;
  }

  /** Stop capturing and wait for the last words. The second call does not wait. `ending` is the problem that ends it. */
  async stop(ending = null) {
    if (this.#isEnding) {
      if (performance.now() - this.#endedAt > DOUBLE_CLICK) this.#stream?.abandon();
      return;
    }
    this.#endedAt = performance.now();
    if (ending) this.#on.notify(problem(ending));
    this.#report();
    await this.#sound?.stop(); // the last frame arrives before this returns
    if (this.#stream) this.#stream.end();
    else this.#over("stopped");
  }

  /** Try to resume interrupted audio. */
  resume() {
    return this.#sound.resume();
  }

  /** The browser reports that the network is back. */
  retryNow() {
    this.#stream?.retryNow();
  }

  get #isEnding() {
    return this.#endedAt !== null;
  }

  #frame({ samples, levels, time }) {
    if (!samples.length) return;
    this.#seconds += samples.length / RATE;
    this.#clock.frame(this.#seconds, time, performance.now());
    this.#stream.send(samples);
    if (Math.max(...levels) > QUIET) this.#soundAt = performance.now();
    this.#on.frame(levels, this.#seconds);
    if (this.#link !== "live") this.#report();
  }

  #show(message) {
    this.#on.message(message);
    if (document.hidden) return; // a hidden page draws nothing
    requestAnimationFrame((now) => {
      this.#latency.shown(message, now);
      if (this.#latency.median !== undefined) this.#on.latency(this.#latency.median);
    });
  }

  #interrupted(is) {
    this.#isInterrupted = is;
    this.#soundAt = performance.now();
    if (is) this.#on.notify(problem("interrupted"));
    else this.#on.withdraw("interrupted");
    this.#report();
  }

  #linkChanged(link) {
    if (link !== this.#link) this.#linkedAt = performance.now();
    this.#link = link;
    if (link === "live") {
      this.#on.withdraw("away");
      if (this.#lost) this.#on.notify(problem("lost", { seconds: this.#lost }));
      this.#lost = 0;
    }
    this.#report();
  }

  async #closed(close) {
    const isDone = close.code === 1000 && this.#isEnding;
    const isAbandoned = close.code === 0 && !close.reason; // by us
    const unheard = this.#stream.held + this.#lost;
    if (!this.#isEnding) {
      this.#endedAt = performance.now();
      await this.#sound.stop();
    }
    this.#over(isDone ? "ended" : "stopped");
    if (!isDone && !isAbandoned) this.#on.notify(closing(close, unheard));
  }

  #over(state) {
    clearInterval(this.#timer);
    ["silent", "interrupted", "away"].forEach((key) => this.#on.withdraw(key));
    this.#on.over(state);
  }

  get #state() {
    if (this.#isEnding) return "ending";
    if (!this.#stream) return "asking";
    if (this.#isInterrupted) return "interrupted";
    if (this.#link !== "live") return this.#link;
    return this.#kind !== "file" && performance.now() - this.#soundAt > SILENT ? "silent" : "live";
  }

  #report() {
    const isAway = this.#stream !== null && this.#link !== "live";
    this.#on.state(this.#state, isAway ? this.#stream.held : 0, isAway ? this.#lost : 0);
    if (this.#state === "silent") this.#on.mention(problem("silent"));
    else this.#on.withdraw("silent");
    if (isAway && performance.now() - this.#linkedAt > AWAY) this.#on.mention(problem("away"));
  }
}
