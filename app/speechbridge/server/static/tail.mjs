// Which words of a partial may still change. Pure.

const STEADY = 1; // updates that left a word as it was: recognizers rarely change it after that

export class Tail {
  #words = []; // { text, steady }

  /** Take the words of a new partial. Returns how many of the first words are stable. */
  update(words) {
    const before = this.#words;
    this.#words = words.map((text, at) => {
      const isSame = before[at]?.text === text;
      return { text, steady: isSame ? before[at].steady + 1 : 0 };
    });
    const unstable = this.#words.findIndex(({ steady }) => steady < STEADY);
    return unstable < 0 ? words.length : unstable;
  }

  /** The utterance is final; the next partial is of another one. */
  reset() {
    this.#words = [];
  }
}
