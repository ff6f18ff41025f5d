// The transcripts on this device (list, search, open, rename, delete), and the streams that a crash interrupted.

import { toText } from "./captions.mjs";
import { openDatabase, result, write } from "./database.mjs";
import { Journal, pieces } from "./journal.mjs";
import { unstash } from "./stash.mjs";
import { Transcript, find, titleOf } from "./transcript.mjs";

export class Library {
  #database;

  /** Open it; null if the browser blocks storage. On a busy device this takes seconds, so nothing may wait for it. */
  static async open() {
    const database = await openDatabase().catch(() => null);
    if (!database) return null;
    await unstash((act) => write(database, act)).catch(() => {}); // after a failure the stash is kept for the next time
    return new Library(database);
  }

  constructor(database) {
    this.#database = database;
  }

  /** The records of all transcripts, the newest first. */
  async list() {
    const records = await result(this.#read("transcripts").getAll());
    return records.sort((a, b) => b.updated - a.updated);
  }

  /** Those of these records whose title or text contains a query: `{ record, excerpt }`. */
  async search(records, query) {
    const found = [];
    for (const record of records) {
      const excerpt = query ? find(await this.#text(record), query) : null;
      if (!query || excerpt || find(titleOf(record), query)) found.push({ record, excerpt });
    }
    return found;
  }

  /** Load a transcript; null if there is none with this id. */
  async load(id) {
    const record = await result(this.#read("transcripts").get(id));
    if (!record) return null;
    const transcript = new Transcript(record);
    for (const final of await result(this.#read("finals").getAll(pieces(id)))) transcript.add(final);
    return transcript;
  }

  async rename(id, title) {
    await write(this.#database, ({ transcripts }) => {
      const getting = transcripts.get(id);
      getting.onsuccess = () => getting.result && transcripts.put({ ...getting.result, title }, id);
    });
  }

  /** Store a final of a transcript again: a word was corrected. */
  async correct(transcript, final) {
    transcript.corrected(final);
    await write(this.#database, ({ finals, texts, transcripts }) => {
      finals.put(final, [transcript.id, transcript.numberOf(final)]);
      texts.delete(transcript.id);
      transcripts.put(transcript.record, transcript.id);
    });
  }

  /** Delete a transcript. Returns a function that brings it back. */
  async remove(id) {
    const record = await result(this.#read("transcripts").get(id));
    const finals = await result(this.#read("finals").getAll(pieces(id)));
    const interrupted = (await this.interrupted()).filter(({ transcript }) => transcript === id);
    await write(this.#database, (stores) => {
      for (const name of ["transcripts", "texts"]) stores[name].delete(id);
      stores.finals.delete(pieces(id));
      for (const stream of interrupted) {
        stores.streams.delete(stream.id);
        stores.audio.delete(pieces(stream.id));
      }
    });
    return () =>
      write(this.#database, (stores) => {
        stores.transcripts.put(record, id);
        finals.forEach((final, number) => stores.finals.put(final, [id, number]));
      });
  }

  /** The records of streams with audio that is not transcribed, including streams that run in other tabs. */
  interrupted() {
    return result(this.#read("streams").getAll());
  }

  /** The audio of such a stream: its bytes in `parts`, from `position` to `end`. */
  async audio({ id, start }) {
    const store = this.#read("audio");
    const [keys, parts] = await Promise.all([result(store.getAllKeys(pieces(id))), result(store.getAll(pieces(id)))]);
    const position = keys.length ? keys[0][1] : start;
    return { position, parts, end: parts.reduce((sum, { length }) => sum + length, position) };
  }

  /** A journal for a new stream that begins at `seconds` of a transcript, or for a restored one. */
  journal(transcript, record, failed) {
    return new Journal((act) => write(this.#database, act), record, transcript, failed);
  }

  #read(store) {
    return this.#database.transaction(store).objectStore(store);
  }

  /** A transcript as plain text. It is made when it is first searched, and again when finals were added. */
  async #text({ id, count }) {
    const known = await result(this.#read("texts").get(id));
    if (known?.count === count) return known.text;
    const text = toText(await result(this.#read("finals").getAll(pieces(id)))).replaceAll("\n", " ");
    await write(this.#database, ({ texts }) => texts.put({ count, text }, id));
    return text;
  }
}

/** Hold a lock until the returned function is called or the tab ends, however it ends; null if another tab holds it. */
export function hold(name) {
  if (!navigator.locks) return Promise.resolve(() => {}); // a page without https, which cannot record either
  return new Promise((resolve) => {
    const holding = (lock) => lock && new Promise((release) => resolve(release));
    navigator.locks.request(`speechbridge.${name}`, { ifAvailable: true }, holding).then(
      () => resolve(null),
      () => resolve(() => {}), // the browser blocks locks: then its tabs share nothing
    );
  });
}
