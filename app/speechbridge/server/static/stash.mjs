// Keeps audio that is not stored yet when the user leaves the page. While a browser unloads a page, it may abort
// running transactions, and starts no new ones; but it completes a write to localStorage, which is synchronous.

const PREFIX = "speechbridge.unstored.";

/** Whenever the user leaves the page, keep what the journal has not stored. `journal()` returns the journal, if any. */
export function stashOnLeaving(journal) {
  addEventListener("pagehide", () => stash(journal()?.unstored));
  // If the page is shown again without a reload, the journal stores the audio itself.
  addEventListener("pageshow", ({ persisted }) => persisted && journal() && forget(journal()));
}

function stash(unstored) {
  if (!unstored?.pieces.length) return;
  const pieces = unstored.pieces.map(({ position, bytes }) => [position, toText(bytes)]);
  try {
    localStorage.setItem(PREFIX + unstored.record.id, JSON.stringify({ record: unstored.record, pieces }));
  } catch {
    // Storage is full or blocked.
  }
}

/** Store what earlier pages kept. `store(act)` runs `act(stores)` in a transaction. */
export async function unstash(store) {
  for (const name of Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))) {
    const { record, pieces } = JSON.parse(localStorage.getItem(name));
    await store(({ streams, audio }) => {
      const known = streams.get(record.id);
      known.onsuccess = () => known.result || streams.put(record, record.id);
      // A piece that was stored after all has the same position and the same bytes.
      for (const [position, text] of pieces) audio.put(toBytes(text), [record.id, position]);
    });
    localStorage.removeItem(name);
  }
}

function forget({ id }) {
  try {
    localStorage.removeItem(PREFIX + id);
  } catch {
    // Storage is blocked.
  }
}

function toText(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function toBytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
