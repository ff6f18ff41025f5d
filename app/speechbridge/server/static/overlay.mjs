// The overlay: the options in its address (?view=overlay&lines=3&position=top#key=...), and their effect on its look.

const FONTS = ["sans", "serif", "wide", "mono"];
const POSITIONS = ["bottom", "top", "middle"];
const ALIGNMENTS = ["center", "left", "right"];
const COLOR = /^(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})$/i;

/** The options of an overlay, with defaults for those that are missing or not valid. */
export function overlayOptions(search) {
  const given = new URLSearchParams(search);
  const number = (name, usual, least, most) => {
    const value = Number(given.get(name) || NaN);
    return Number.isFinite(value) ? Math.max(least, Math.min(most, value)) : usual;
  };
  const oneOf = (name, values) => (values.includes(given.get(name)) ? given.get(name) : values[0]);
  const color = (name, usual) => (COLOR.test(given.get(name) ?? "") ? `#${given.get(name)}` : usual);
  return {
    lines: Math.round(number("lines", 2, 1, 10)),
    size: number("size", 1, 0.25, 5),
    fade: number("fade", 6, 0, 3600), // seconds; 0: never
    font: oneOf("font", FONTS),
    position: oneOf("position", POSITIONS),
    align: oneOf("align", ALIGNMENTS),
    color: color("color", "#ffffff"),
    background: color("background", "#0a0c10c7"),
    source: given.get("source") ?? "",
    language: given.get("language") ?? "",
  };
}

/** The API key in the fragment of an address; empty if there is none. */
export function keyIn(hash) {
  return new URLSearchParams(hash.replace(/^#/, "")).get("key")?.trim() ?? "";
}

/** The fragment of an address without the key. */
export function withoutKey(hash) {
  const kept = new URLSearchParams(hash.replace(/^#/, ""));
  kept.delete("key");
  return `${kept}` && `#${kept}`;
}

/** Apply the options to the page. */
export function applyOptions(root, { lines, size, color, background, font, position, align }) {
  for (const [name, value] of Object.entries({ lines, size, color, background })) {
    root.style.setProperty(`--${name}`, value);
  }
  Object.assign(root.dataset, { font, position, align });
}

/** Fades the captions `seconds` after the last message; 0: never. */
export class Fading {
  #root;
  #seconds;
  #timer;

  constructor(root, seconds) {
    this.#root = root;
    this.#seconds = seconds;
  }

  restart() {
    if (!this.#seconds) return;
    clearTimeout(this.#timer);
    delete this.#root.dataset.faded;
    this.#timer = setTimeout(() => (this.#root.dataset.faded = ""), this.#seconds * 1000);
  }
}
