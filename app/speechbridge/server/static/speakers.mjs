// Who speaks. Engines report it for a word or for a whole utterance, as `speaker`, `speaker_id` or `channel`. Pure.

const UNKNOWN = ["", "1000"]; // Rev.ai sends 1000

/** The speaker that an element or a message names, as a string; undefined if it names none. */
export function speakerOf({ speaker, speaker_id, channel }) {
  const given = speaker ?? speaker_id ?? channel;
  const isName = typeof given === "number" || typeof given === "string";
  return isName && !UNKNOWN.includes(String(given).trim()) ? String(given).trim() : undefined;
}

/**
 * Split a partial or final into turns. A turn is like the message, but has a `speaker`, and the elements of this
 * speaker only. Without speakers there is one turn. Elements that name no speaker, such as punctuation, belong to the
 * speaker before.
 */
export function turns(message) {
  const runs = [];
  for (const element of message.elements) {
    const last = runs.at(-1);
    const isSame = !last || element.speaker === undefined || [element.speaker, undefined].includes(last.speaker);
    if (last && isSame) last.elements.push(element);
    else runs.push({ speaker: element.speaker, elements: [element] });
    runs.at(-1).speaker ??= element.speaker;
  }
  if (runs.length < 2) return [{ ...message, speaker: runs[0]?.speaker }];
  return runs.map(({ speaker, elements }) => {
    const words = elements.filter(({ type }) => type === "text");
    const [ts, end_ts] = [words[0]?.ts ?? message.ts, words.at(-1)?.end_ts ?? message.end_ts];
    return { ...message, ts, end_ts, elements, speaker };
  });
}

/** The speakers of a transcript, in the order in which they appear. */
export class Speakers {
  #known = [];

  /** The number of a speaker, from 0. */
  numberOf(speaker) {
    if (!this.#known.includes(speaker)) this.#known.push(speaker);
    return this.#known.indexOf(speaker);
  }

  /** The label of a speaker: the name, or a number; undefined if there is no speaker. */
  nameOf(speaker) {
    if (speaker === undefined) return undefined;
    return /^\d+$/u.test(speaker) ? `Speaker ${this.numberOf(speaker) + 1}` : speaker;
  }
}
