// IndexedDB with promises: the data that the page keeps on this device.
//
// - transcripts: { id, title, created, updated, seconds, count, first }, by id
// - finals: partials and finals as captions.mjs parses them, by [transcript, number]
// - texts: { count, text }, a transcript's words for searching, by transcript; written when it is first searched
// - streams: the state to resume a stream from, by id; only while the stream has audio that is not settled
// - audio: the replay buffer of those streams in pieces, by [stream, position]

const NAME = "speechbridge";
const VERSION = 1;
export const STORES = ["transcripts", "finals", "texts", "streams", "audio"];

/** Open the database. Rejects if the browser blocks storage. */
export function openDatabase() {
  return new Promise((resolve, reject) => {
    // If storage is blocked, this throws, which rejects the promise, too.
    const opening = indexedDB.open(NAME, VERSION);
    opening.onupgradeneeded = () => {
      for (const name of STORES) opening.result.createObjectStore(name);
    };
    opening.onsuccess = () => {
      opening.result.onversionchange = () => opening.result.close(); // a newer page in another tab
      resolve(opening.result);
    };
    opening.onerror = () => reject(opening.error);
    opening.onblocked = () => reject(new Error("an older page in another tab blocks the database"));
  });
}

/** The result of a request. */
export function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Run `act(stores)` in one transaction, where `stores` has the object stores by name; resolve once it is stored. */
export function write(database, act) {
  return new Promise((resolve, reject) => {
    // Relaxed: a commit survives the crash of a tab, though not a power cut, and takes a tenth of the time.
    const transaction = database.transaction(STORES, "readwrite", { durability: "relaxed" });
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    act(Object.fromEntries(STORES.map((name) => [name, transaction.objectStore(name)])));
  });
}
