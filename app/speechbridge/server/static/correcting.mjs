// Corrects a word: shows a field in its place, opened by a click or by a key.

import { places } from "./captions.mjs";
import { boxOf } from "./pointing.mjs";

const SPARE = 0.3; // em that the field is wider than its text

const $ = (id) => document.getElementById(id);

export class Correcting {
  #form = $("correct");
  #input = $("correct").querySelector("input");
  #on;
  #at = null; // { paragraph, turn, number }: the word, by its number in the turn

  /** Callbacks in `on`: `corrected(paragraph, turn)`, and `closed()`, also if nothing was changed. */
  constructor(on) {
    this.#on = on;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#finish();
    });
    this.#input.addEventListener("blur", () => this.#finish());
    this.#input.addEventListener("input", () => this.#fit());
    this.#input.addEventListener("keydown", (event) => this.#pressed(event));
  }

  get isOpen() {
    return this.#at !== null;
  }

  /** Open it for a word of a paragraph, which shows `turn`; the last word if no number is given. */
  open(paragraph, turn, number = places(turn).length - 1) {
    const place = places(turn)[number];
    if (!place) return;
    this.#at = { paragraph, turn, number };
    this.#form.hidden = false;
    this.#input.value = place.element.value;
    this.#input.ariaLabel = `Correct “${place.element.value}”`;
    this.place();
    this.#input.focus({ preventScroll: true });
    this.#input.select();
    this.#form.scrollIntoView({ block: "nearest" });
  }

  /** Move the field to its word. */
  place() {
    if (!this.#at) return;
    const { paragraph, turn, number } = this.#at;
    const box = boxOf(paragraph, places(turn)[number]);
    const around = this.#form.offsetParent.getBoundingClientRect();
    const { scrollLeft, scrollTop } = this.#form.offsetParent;
    this.#fit();
    const furthest = around.width - this.#form.offsetWidth;
    const left = Math.min(box.left - around.left + scrollLeft, furthest);
    this.#form.style.translate = `${Math.max(0, left)}px ${box.top - around.top + scrollTop}px`;
  }

  /** Close it and keep the word as it was. */
  cancel() {
    if (!this.#at) return;
    this.#at = null;
    this.#input.blur(); // WebKit leaves the focus in a field that is hidden
    this.#form.hidden = true;
    this.#on.closed();
  }

  #fit() {
    this.#input.style.width = "0";
    const size = parseFloat(getComputedStyle(this.#input).fontSize);
    this.#input.style.width = `min(${this.#input.scrollWidth + SPARE * size}px, 100%)`;
  }

  #pressed(event) {
    if (event.key === "Escape") {
      this.cancel();
    } else if (event.key === "Tab" || event.code === "Tab") { // WebKitGTK gives no key with Shift
      const next = this.#at.number + (event.shiftKey ? -1 : 1);
      const { paragraph } = this.#at;
      const turn = this.#keep();
      if (next < 0 || next >= places(turn).length) {
        this.cancel();
        return; // the focus leaves, as usual
      }
      this.open(paragraph, turn, next);
    } else {
      return;
    }
    event.preventDefault();
  }

  #finish() {
    if (!this.#at) return;
    this.#keep();
    this.cancel();
  }

  /** Keep what was typed. A word that is emptied is removed when the field is closed. */
  #keep() {
    const { paragraph, turn, number } = this.#at;
    const { element } = places(turn)[number];
    const value = this.#input.value.split(/\s+/u).filter(Boolean).join(" ");
    if (value !== element.value) {
      element.value = value;
      delete element.confidence; // it was the recognizer's, for the old word
      this.#on.corrected(paragraph, turn);
    }
    return turn;
  }
}
