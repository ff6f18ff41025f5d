// The replay buffer: the newest audio, addressed by its position in bytes; at most `room` bytes. Pure.

export class Ring {
  start; // position of the oldest byte kept
  end; // position after the newest byte
  #bytes;

  constructor(room, position = 0) {
    this.#bytes = new Uint8Array(room);
    this.start = this.end = position;
  }

  /** Append at most `room` bytes. The oldest are evicted when the buffer is full. */
  append(bytes) {
    const room = this.#bytes.length;
    const at = this.end % room;
    const tail = bytes.subarray(0, room - at);
    this.#bytes.set(tail, at);
    this.#bytes.set(bytes.subarray(tail.length), 0);
    this.end += bytes.length;
    this.start = Math.max(this.start, this.end - room);
  }

  /** Copy up to `length` bytes from a position that is in the buffer. */
  read(position, length) {
    const room = this.#bytes.length;
    const copy = new Uint8Array(Math.min(length, this.end - position));
    const at = position % room;
    const tail = this.#bytes.subarray(at, at + copy.length);
    copy.set(tail);
    copy.set(this.#bytes.subarray(0, copy.length - tail.length), tail.length);
    return copy;
  }

  /** Discard everything before a position. */
  release(position) {
    this.start = Math.max(this.start, Math.min(position, this.end));
  }
}
