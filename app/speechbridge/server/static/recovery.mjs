// Transcribes audio that earlier streams left on this device: a tab crashed, or the service could not be reached.

import { hold } from "./library.mjs";
import { BYTES_PER_SECOND, ResumableStream } from "./stream.mjs";
import { Transcript } from "./transcript.mjs";

export class Recovery {
  #service;
  #library;
  #on;
  #stream = null;
  #isRunning = false;

  /**
   * Callbacks in `on`:
   * - `message(message, transcript)`: a partial or final.
   * - `state(seconds, isLive)`: the seconds of audio being transcribed, 0 at the end; whether the service accepts it.
   * - `over(close, kept, seconds)`, once for each stream: the service's close, the seconds of audio kept for another
   *   attempt, and the seconds that there were.
   */
  constructor(service, library, on) {
    this.#service = service;
    this.#library = library;
    this.#on = on;
  }

  /** Transcribe it all, except the stream with the id `running`. `current` is the transcript that this tab shows. */
  async run(current, { running, accessKey }) {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      await this.#transcribeAll(current, running, accessKey);
    } finally {
      this.#isRunning = false;
    }
  }

  retryNow() {
    this.#stream?.retryNow();
  }

  async #transcribeAll(current, running, accessKey) {
    for (const record of await this.#library.interrupted()) {
      if (record.id === running) continue;
      const isCurrent = record.transcript === current.id;
      const release = isCurrent ? () => {} : await hold(`transcript.${record.transcript}`);
      if (!release) continue; // another tab runs it
      const known = isCurrent ? current : await this.#library.load(record.transcript);
      const transcript = known ?? new Transcript({ id: record.transcript });
      const isServed = await this.#transcribe(record, transcript, accessKey);
      release();
      if (!isServed) return; // the others would fail, too
    }
  }

  /** Transcribe the audio of one stream. Resolves with whether all of it was transcribed. */
  async #transcribe(record, transcript, accessKey) {
    const { position, parts, end } = await this.#library.audio(record);
    const journal = this.#library.journal(transcript, record, () => {});
    const seconds = (end - record.start) / BYTES_PER_SECOND;
    return new Promise((resolve) => {
      const stream = (this.#stream = new ResumableStream(this.#service, {
        seconds: record.seconds,
        language: record.language,
        accessKey,
        journal,
        restored: { ...record, position, parts },
        on: {
          state: (link) => this.#on.state(seconds, link === "live"),
          lost: () => {},
          message: (message) => {
            if (message.type === "final") transcript.add(message);
            this.#on.message(message, transcript);
          },
          over: (close, untranscribed) => {
            this.#stream = null;
            this.#on.state(0, false);
            this.#on.over(close, untranscribed, seconds);
            resolve(untranscribed === 0);
          },
        },
      }));
      this.#on.state(seconds, false);
      stream.end();
    });
  }
}
