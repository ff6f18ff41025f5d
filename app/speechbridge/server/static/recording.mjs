// From Start to the last words: a sound, a stream, and how it is with them.

import { hypothesis } from "./captions.mjs";
import { CaptureClock, Latency } from "./latency.mjs";
import { open } from "./sound.mjs";
import { ResumableStream } from "./stream.mjs";
import { Problem, closing, problem } from "./words.mjs";

const RATE = 16000;
const SILENT = 5_000; // ms without a sound after which that is said
const QUIET = 0.001; // of full scale, 60 dB down: no open microphone in a room gives less
const AWAY = 5_000; // ms without the service after which that is
const HASTE = 1_000; // ms in which a second stop is taken for a part of the first

export class Recording {
  #service;
  #accessKey;
  #on;
  #seconds; // of the transcript, until now
  #kind;
  #sound = null;
  #stream = null;
  #clock;
  #latency;
  #link = "connecting"; // or live, reconnecting
  #linkedAt; // when that changed
  #heardAt; // when there was a sound last
  #isInterrupted = false;
  #endedAt = null;
  #lost = 0;
  #ticking = setInterval(() => this.#tell(), 500);

  /**
   * `service` is its address, ws or wss; `seconds` is where in the transcript the sound begins. `on` is told:
   * `state(name, held, lost)`, often, with the seconds of sound that wait for the service or had to go;
   * `frame(levels, seconds)`; `heard(message)`; `latency(ms)`; `says(notice)`, `mentions(notice)` of what need not be said
   * over another, and `takesBack(key)` when it is no longer so; at last, once, `over(state)`.
   */
  constructor(service, { seconds, accessKey, on }) {
    this.#service = service;
    this.#seconds = seconds;
    this.#accessKey = accessKey;
    this.#on = on;
  }

  /** Begin, within a click or a key. Returns whether it runs; if not, why has been said. */
  async begin(choice) {
    this.#kind = choice.kind;
    this.#tell();
    const early = []; // frames that come before there is a stream
    let take = (frame) => early.push(frame);
    try {
      this.#sound = await open(choice, {
        frame: (frame) => take(frame),
        interrupted: (is) => this.#interrupted(is),
        ended: (ending) => this.stop(ending),
      });
    } catch (error) {
      if (this.#isEnding) return false; // stopped while the browser asked
      this.#over("stopped");
      if (!(error instanceof Problem)) throw error;
      this.#on.says(problem(error.message, location));
      return false;
    }
    if (this.#isEnding) {
      this.#sound.stop();
      return false;
    }
    this.#clock = new CaptureClock(this.#sound.delay);
    this.#latency = new Latency(this.#clock);
    this.#heardAt = this.#linkedAt = performance.now();
    this.#stream = new ResumableStream(this.#service, {
      seconds: this.#seconds,
      accessKey: this.#accessKey,
      on: {
        state: (link) => this.#linked(link),
        heard: (message) => this.#heard(hypothesis(message)),
        lost: (seconds) => (this.#lost += seconds),
        over: (close) => this.#closed(close),
      },
    });
    take = (frame) => this.#frame(frame);
    early.forEach(take);
    this.#tell();
    return true;
  }

  /** Hear no more, and wait for the last words. A second time: do not wait. `ending` is the problem that ends it. */
  async stop(ending = null) {
    if (this.#isEnding) {
      if (performance.now() - this.#endedAt > HASTE) this.#stream?.abandon();
      return;
    }
    this.#endedAt = performance.now();
    if (ending) this.#on.says(problem(ending));
    this.#tell();
    await this.#sound?.stop(); // its last frame comes before this returns
    if (this.#stream) this.#stream.end();
    else this.#over("stopped");
  }

  /** Try to get an interrupted sound back. */
  resume() {
    return this.#sound.resume();
  }

  /** The network is said to be back. */
  hurry() {
    this.#stream?.hurry();
  }

  get #isEnding() {
    return this.#endedAt !== null;
  }

  #frame({ samples, levels, time }) {
    if (!samples.length) return;
    this.#seconds += samples.length / RATE;
    this.#clock.frame(this.#seconds, time, performance.now());
    this.#stream.send(samples);
    if (Math.max(...levels) > QUIET) this.#heardAt = performance.now();
    this.#on.frame(levels, this.#seconds);
    if (this.#link !== "live") this.#tell();
  }

  #heard(message) {
    this.#on.heard(message);
    if (document.hidden) return; // nothing appears
    requestAnimationFrame((now) => {
      this.#latency.shown(message, now);
      if (this.#latency.median !== undefined) this.#on.latency(this.#latency.median);
    });
  }

  #interrupted(is) {
    this.#isInterrupted = is;
    this.#heardAt = performance.now();
    if (is) this.#on.says(problem("interrupted"));
    else this.#on.takesBack("interrupted");
    this.#tell();
  }

  #linked(link) {
    if (link !== this.#link) this.#linkedAt = performance.now();
    this.#link = link;
    if (link === "live") {
      this.#on.takesBack("away");
      if (this.#lost) this.#on.says(problem("lost", { seconds: this.#lost }));
      this.#lost = 0;
    }
    this.#tell();
  }

  async #closed(close) {
    const isDone = close.code === 1000 && this.#isEnding;
    const isLeft = close.code === 0 && !close.reason; // by us
    const unheard = this.#stream.held + this.#lost;
    if (!this.#isEnding) {
      this.#endedAt = performance.now();
      await this.#sound.stop();
    }
    this.#over(isDone ? "ended" : "stopped");
    if (!isDone && !isLeft) this.#on.says(closing(close, unheard));
  }

  #over(state) {
    clearInterval(this.#ticking);
    ["silent", "interrupted", "away"].forEach((key) => this.#on.takesBack(key));
    this.#on.over(state);
  }

  get #state() {
    if (this.#isEnding) return "ending";
    if (!this.#stream) return "asking";
    if (this.#isInterrupted) return "interrupted";
    if (this.#link !== "live") return this.#link;
    return this.#kind !== "file" && performance.now() - this.#heardAt > SILENT ? "silent" : "live";
  }

  #tell() {
    const isAway = this.#stream !== null && this.#link !== "live";
    this.#on.state(this.#state, isAway ? this.#stream.held : 0, isAway ? this.#lost : 0);
    if (this.#state === "silent") this.#on.mentions(problem("silent"));
    else this.#on.takesBack("silent");
    if (isAway && performance.now() - this.#linkedAt > AWAY) this.#on.mentions(problem("away"));
  }
}
