// Writes a running stream to this device, so that neither a reload nor a crash loses anything. Pure, except for
// `store`.
//
// Whatever arrives while one transaction runs goes into the next one (group commit), audio as one piece. So audio is
// stored a few milliseconds after it was captured, and a slow disk makes the pieces larger, not their number.

const PIECE = 2 ** 15; // bytes in a piece at most: a second
const STEP = 2 ** 17; // bytes: evicted audio is deleted in steps of this size

/** For a stream that is not stored. */
export const NO_JOURNAL = { audio() {}, progress() {}, final: (_message, _progress, done) => done(), close() {} };

export class Journal {
  #store;
  #failed;
  #record;
  #isStored; // the record is
  #pruned; // audio before this position is deleted
  #waiting = []; // { act, done }
  #audio = { parts: [], length: 0 }; // the piece that waits
  #unstored = []; // pieces: the one that waits, and those that are being written
  #isClosed = false;
  #isWriting = false;
  #isBroken = false;

  /**
   * `store(act)` runs `act(stores)` in one transaction and resolves once that is stored. `record` describes the stream:
   * `{ id, seconds }`, and the progress of a restored one. `transcript` receives the finals. `failed()` is called once,
   * if the device cannot store any more.
   */
  constructor(store, record, transcript, failed) {
    this.transcript = transcript;
    this.#store = store;
    this.#record = record;
    this.#isStored = record.start !== undefined;
    this.#pruned = record.start ?? 0;
    this.#failed = failed;
  }

  get id() {
    return this.#record.id;
  }

  /** What is lost if the page is left now: `{ record, pieces }`, each piece `{ position, bytes }`; null if nothing is. */
  get unstored() {
    if (this.#isClosed || this.#isBroken) return null;
    const pieces = this.#unstored.map((piece) => ({ position: piece.position, bytes: joined(piece) }));
    return { record: { ...this.#record, transcript: this.transcript.id }, pieces };
  }

  /** Store a piece of audio. Audio before `start` has been evicted. */
  audio(position, bytes, start) {
    const isNew = !this.#isStored;
    const isDue = start - this.#pruned >= STEP;
    this.#isStored = true;
    if (isNew) Object.assign(this.#record, { start, base: start, settled: start, key: null, finals: 0 });
    const { parts, length } = this.#audio;
    if (parts.length && length + bytes.length <= PIECE && !isDue) {
      parts.push(bytes);
      this.#audio.length += bytes.length;
      return; // it goes with the piece that waits
    }
    const piece = (this.#audio = { position, parts: [bytes], length: bytes.length });
    this.#unstored.push(piece);
    this.#write((stores) => {
      if (isNew) this.#put(stores);
      stores.audio.put(joined(piece), [this.#record.id, position]);
      if (isDue) this.#prune(stores, start);
    });
  }

  /** Store the progress of the stream: `{ key, base, finals, settled, start }`. */
  progress(progress) {
    Object.assign(this.#record, progress);
    if (!this.#isStored) return;
    this.#write((stores) => {
      this.#put(stores);
      this.#prune(stores, progress.start);
    });
  }

  /** Store a final, which the transcript has, together with the progress that it makes. Then call `done`. */
  final(message, progress, done) {
    Object.assign(this.#record, progress);
    const { transcript } = this;
    this.#write((stores) => {
      stores.finals.put(message, [transcript.id, transcript.numberOf(message)]);
      stores.transcripts.put(transcript.record, transcript.id);
      this.#put(stores);
      this.#prune(stores, progress.start);
    }, done);
  }

  /** The stream is over. Audio from `position` to `end`, if any, is not transcribed: keep it for another attempt. */
  close(position, end) {
    const { transcript } = this;
    const { id } = this.#record;
    const isTranscribed = (this.#isClosed = position >= end || !this.#isStored);
    this.#write((stores) => {
      if (transcript.count) stores.transcripts.put(transcript.record, transcript.id);
      if (isTranscribed) {
        stores.streams.delete(id);
        stores.audio.delete(pieces(id));
      } else {
        Object.assign(this.#record, { key: null, finals: 0, base: position, settled: position, start: position });
        this.#put(stores);
        this.#prune(stores, position);
      }
    });
  }

  #put({ streams }) {
    streams.put({ ...this.#record, transcript: this.transcript.id }, this.#record.id);
  }

  #prune({ audio }, start) {
    audio.delete(pieces(this.#record.id, start - PIECE));
    this.#pruned = start;
  }

  #write(act, done = () => {}) {
    this.#waiting.push({ act, done });
    if (!this.#isWriting) this.#writeAll();
  }

  async #writeAll() {
    this.#isWriting = true;
    while (this.#waiting.length) {
      const batch = this.#waiting;
      const written = this.#unstored.length;
      this.#waiting = [];
      this.#audio = { parts: [], length: 0 };
      try {
        if (!this.#isBroken) await this.#store((stores) => batch.forEach(({ act }) => act(stores)));
      } catch {
        this.#isBroken = true; // the device is full, or the user has deleted the site's data
        this.#failed();
      }
      this.#unstored.splice(0, written);
      batch.forEach(({ done }) => done());
    }
    this.#isWriting = false;
  }
}

function joined({ parts, length }) {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The keys of a stream's pieces of audio up to a position. */
export function pieces(id, last = Infinity) {
  return IDBKeyRange.bound([id, -Infinity], [id, last]);
}
