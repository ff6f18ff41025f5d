// Audio that may be needed again, addressed by its position in bytes; never more than `room`. Pure.

export class Ring {
  start = 0; // the oldest byte kept
  end = 0; // one after the newest
  #bytes;

  constructor(room) {
    this.#bytes = new Uint8Array(room);
  }

  /** Keep more, no more than `room` at once; the oldest goes when there is too much. */
  append(bytes) {
    const room = this.#bytes.length;
    const at = this.end % room;
    const tail = bytes.subarray(0, room - at);
    this.#bytes.set(tail, at);
    this.#bytes.set(bytes.subarray(tail.length), 0);
    this.end += bytes.length;
    this.start = Math.max(this.start, this.end - room);
  }

  /** Copy up to `length` bytes from a position that is kept. */
  read(position, length) {
    const room = this.#bytes.length;
    const copy = new Uint8Array(Math.min(length, this.end - position));
    const at = position % room;
    const tail = this.#bytes.subarray(at, at + copy.length);
    copy.set(tail);
    copy.set(this.#bytes.subarray(0, copy.length - tail.length), tail.length);
    return copy;
  }

  /** Forget what lies before a position. */
  release(position) {
    this.start = Math.max(this.start, Math.min(position, this.end));
  }
}
