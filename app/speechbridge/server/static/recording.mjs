// One recording, from Start to the last words: an audio source, a stream, and the state of both.

import { CaptureClock, Latency } from "./latency.mjs";
import { open } from "./sound.mjs";
import { ResumableStream } from "./stream.mjs";
import { Problem, closing, problem } from "./words.mjs";

const RATE = 16000;
const SILENT = 5_000; // ms of silence before the page reports it
const QUIET = 0.001; // of full scale, 60 dB down: every open microphone in a room is louder
const AWAY = 5_000; // ms without the service before the page reports it
const DOUBLE_CLICK = 1_000; // ms in which a second stop is ignored
const KEPT = 0.5; // seconds of audio kept for later; less does not get a notice

export class Recording {
  #service;
  #options;
  #on;
  #seconds; // length of the transcript
  #kind;
  #sound = null;
  #stream = null;
  #clock;
  #latency;
  #link = "connecting"; // or live, reconnecting, queued
  #queued; // the place in the service's queue, and the wait
  #linkedAt; // when `#link` last changed
  #soundAt; // when the last sound was captured
  #isInterrupted = false;
  #hasCaptions = false; // a partial or final with words has arrived
  #endedAt = null;
  #lost = 0;
  #timer = setInterval(() => this.#report(), 500);

  /**
   * `service` is the service's address, ws or wss; `seconds` is the position in the transcript where the audio begins;
   * `journal` stores the stream, if it can be stored.
   *
   * Callbacks in `on`:
   * - `state(state)`, often: `{ name, behind, held, lost, latency, isListening }`, times in seconds.
   * - `frame(levels, seconds)`: new sound; `seconds` is the transcript's length now.
   * - `message(message)`: a partial or final.
   * - `player(player)`, often: the controls of a file.
   * - `notify(notice)`; `mention(notice)`, for a notice that must not replace another; `withdraw(key)`, when a notice
   *   no longer applies.
   * - `shared(token)`, with `share`.
   * - `over(name)`, once, at the end: the last state.
   */
  constructor(service, { seconds, language = "", accessKey = "", journal, share = false, on }) {
    this.#service = service;
    this.#seconds = seconds;
    this.#options = { seconds, language, accessKey, journal, share };
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
        played: (player) => this.#on.player(player),
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
      ...this.#options,
      on: {
        shared: (token) => this.#on.shared(token),
        state: (link, queued) => this.#linkChanged(link, queued),
        message: (message) => this.#show(message),
        lost: (seconds) => (this.#lost += seconds),
        over: (close, untranscribed) => this.#closed(close, untranscribed),
      },
    });
    take = (frame) => this.#frame(frame);
    early.forEach(take);
    this.#report();
    return true;
  }

  /** Stop capturing and wait for the last words; a second call does not wait. `ending` is a problem that ends it. */
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

  /** Controls of a file: `{ name, position, duration, isPaused, toggle(), seek(seconds) }`; otherwise undefined. */
  get player() {
    return this.#isEnding ? undefined : this.#sound?.player;
  }

  get #isEnding() {
    return this.#endedAt !== null;
  }

  get #isAway() {
    return this.#stream !== null && this.#link !== "live";
  }

  #frame({ samples, levels, time }) {
    if (!samples.length) return;
    this.#seconds += samples.length / RATE;
    this.#clock.frame(this.#seconds, time, performance.now());
    this.#stream.send(samples);
    if (Math.max(...levels) > QUIET) this.#soundAt = performance.now();
    this.#on.frame(levels, this.#seconds);
    if (this.#isAway) this.#report();
  }

  #show(message) {
    this.#hasCaptions ||= message.elements.length > 0;
    this.#on.message(message);
    if (document.hidden) return; // a hidden page draws nothing
    requestAnimationFrame((now) => {
      this.#latency.shown(message, now);
      if (!this.#isEnding) this.#report();
    });
  }

  #interrupted(is) {
    this.#isInterrupted = is;
    this.#soundAt = performance.now();
    if (is) this.#on.notify(problem("interrupted"));
    else this.#on.withdraw("interrupted");
    this.#report();
  }

  #linkChanged(link, queued) {
    this.#queued = queued;
    if (link !== this.#link) this.#linkedAt = performance.now();
    this.#link = link;
    if (link === "live") {
      this.#on.withdraw("away");
      if (this.#lost) this.#on.notify(problem("lost", { seconds: this.#lost }));
      this.#lost = 0;
    } else {
      this.#latency.reset();
    }
    this.#report();
  }

  async #closed(close, untranscribed) {
    const isDone = close.code === 1000 && this.#isEnding;
    const isAbandoned = close.code === 0 && !close.reason; // by us
    const facts = {
      unsent: this.#stream.held + this.#lost,
      kept: this.#options.journal ? untranscribed : 0,
      hasKey: this.#options.accessKey !== "",
      hasBegun: this.#stream.hasBegun,
    };
    if (!this.#isEnding) {
      this.#endedAt = performance.now();
      await this.#sound.stop();
    }
    this.#over(isDone ? "ended" : "stopped");
    if (isAbandoned && facts.kept >= KEPT) this.#on.notify(problem("kept", { seconds: facts.kept }));
    else if (!isDone && !isAbandoned) this.#on.notify(closing(close, facts));
  }

  #over(state) {
    clearInterval(this.#timer);
    ["silent", "interrupted", "away"].forEach((key) => this.#on.withdraw(key));
    this.#on.over(state);
  }

  get #state() {
    if (this.#isEnding) return this.#isAway ? "waiting" : "ending";
    if (!this.#stream) return "asking";
    if (this.#isInterrupted) return "interrupted";
    if (this.#isAway) return this.#link;
    if (this.#sound.player?.isPaused) return "paused";
    return this.#kind !== "file" && performance.now() - this.#soundAt > SILENT ? "silent" : "live";
  }

  #report() {
    const now = performance.now();
    const held = this.#stream?.held ?? 0;
    const behind = this.#stream ? this.#latency.behind(held * 1000, now) / 1000 : 0;
    const name = this.#state;
    this.#on.state({
      name,
      behind: ["live", "silent"].includes(name) ? behind : 0,
      queued: this.#queued,
      held: this.#isAway ? held : 0,
      lost: this.#isAway ? this.#lost : 0,
      latency: name === "live" ? this.#latency.median(now) / 1000 : undefined,
      isListening: !this.#hasCaptions && ["live", "silent"].includes(name),
    });
    if (name === "silent" && !behind) this.#on.mention(problem("silent"));
    else this.#on.withdraw("silent");
    if (this.#isAway && !this.#queued && now - this.#linkedAt > AWAY) this.#on.mention(problem("away"));
  }
}
