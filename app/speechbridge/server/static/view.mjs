// The captions on the page. Each turn of a speaker is one text node: so a thousand turns do not slow down new ones.

import { line, places } from "./captions.mjs";
import { Correcting } from "./correcting.mjs";
import { wordAt } from "./pointing.mjs";
import { Speakers, turns } from "./speakers.mjs";
import { Tail } from "./tail.mjs";
import { time } from "./words.mjs";

const NEAR = 80; // px from the end: closer than this, the view follows new captions
const OVERLAID = 3; // turns that an overlay keeps
const COLORS = 6; // of speakers

export class Captions {
  #scroller = document.getElementById("captions");
  #finals = document.getElementById("finals");
  #partial = document.getElementById("partial");
  #who = document.getElementById("who");
  #stable = document.getElementById("stable");
  #unstable = document.getElementById("unstable");
  #listening = document.getElementById("listening");
  #empty = document.getElementById("empty");
  #latest = document.getElementById("latest");
  #word = document.getElementById("word");
  #turnOf = new WeakMap(); // paragraph to turn
  #finalOf = new WeakMap(); // turn to final
  #speakers = new Speakers();
  #correcting;
  #tail = new Tail();
  #follows = true;
  #top = 0;
  #most;
  #pointed; // the element of the word that was touched last
  #mayCorrect = false;

  /** `corrected(final)` is called when a word of a final was corrected. */
  constructor({ isOverlay, corrected }) {
    this.#most = isOverlay ? OVERLAID : Infinity;
    this.#correcting = new Correcting({
      corrected: (paragraph, turn) => {
        paragraph.textContent = line(turn);
        corrected(this.#finalOf.get(turn));
      },
      closed: () => this.#follow(),
    });
    if (!isOverlay) this.#finals.addEventListener("click", (event) => this.#clicked(event));
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#latest.addEventListener("click", () => {
      this.#follows = true;
      this.#follow();
      this.#scroller.focus();
    });
    this.#finals.addEventListener("pointermove", (event) => this.#point(event));
    this.#finals.addEventListener("pointerdown", (event) => this.#touched(event));
    this.#finals.addEventListener("pointerleave", () => (this.#word.hidden = true));
    // Their height changes with new words, the window and the text size.
    const resized = new ResizeObserver(() => {
      this.#correcting.place();
      this.#follow();
    });
    for (const box of [this.#scroller, this.#finals, this.#partial]) resized.observe(box);
  }

  /** Show a partial or a final. */
  show(message) {
    const text = line(message);
    if (message.type === "final") {
      if (text) this.#insert(message);
      this.#tail.reset();
      this.#showPartial("");
    } else {
      this.#showPartial(text, turns(message).at(-1).speaker);
    }
  }

  /** Show another transcript. */
  open(finals) {
    this.clear();
    for (const final of finals) this.#append(final);
    this.#follows = true;
    this.#follow();
  }

  clear() {
    this.#correcting.cancel();
    this.#speakers = new Speakers();
    this.#finals.replaceChildren();
    this.#tail.reset();
    this.#showPartial("");
    this.#word.hidden = true;
    this.#empty.hidden = false;
  }

  /** Open the field that corrects a word, for the newest one. */
  correct() {
    const paragraph = this.#finals.lastElementChild?.lastChild;
    if (paragraph) this.#correcting.open(paragraph, this.#turnOf.get(paragraph));
  }

  /** Show "Listening" until the first words arrive. */
  set isListening(is) {
    this.#listening.hidden = !is;
    if (is && this.#finals.firstChild) this.#follow();
  }

  #showPartial(text, speaker) {
    const last = this.#finals.lastElementChild;
    const isNew = text && speaker !== undefined && (!last || this.#turn(last).speaker !== speaker);
    this.#who.textContent = isNew ? this.#speakers.nameOf(speaker) : "";
    if (isNew) this.#partial.dataset.speaker = this.#speakers.numberOf(speaker) % COLORS;
    const words = text ? text.split(" ") : [];
    const stable = this.#tail.update(words);
    const space = stable && stable < words.length ? " " : "";
    this.#stable.textContent = words.slice(0, stable).join(" ") + space;
    this.#unstable.textContent = words.slice(stable).join(" ");
    if (text) this.#empty.hidden = true;
  }

  /** Add a final as the newest: an item for each turn. */
  #append(final) {
    const items = [];
    for (const turn of turns(final)) {
      const text = line(turn);
      if (!text) continue;
      const item = document.createElement("div");
      const when = document.createElement("time");
      const paragraph = document.createElement("p");
      when.textContent = time(turn.ts);
      paragraph.textContent = text;
      item.append(when, paragraph);
      this.#turnOf.set(paragraph, turn);
      this.#finalOf.set(turn, final);
      this.#finals.append(item);
      this.#label(item, turn);
      items.push(item);
    }
    this.#empty.hidden ||= items.length > 0;
    return items;
  }

  /** Add a final at its place in time: that of a restored stream may be older than the last one. */
  #insert(final) {
    for (const item of this.#append(final)) {
      item.className = "new";
      while (item.previousSibling && this.#turn(item.previousSibling).begin > final.begin) {
        item.previousSibling.before(item);
      }
    }
    while (this.#finals.childElementCount > this.#most) this.#finals.firstElementChild.remove();
  }

  #turn(item) {
    return this.#turnOf.get(item.lastChild);
  }

  /** Label an item with its speaker, if the one before has another. */
  #label(item, { speaker }) {
    if (speaker === undefined) return;
    item.dataset.speaker = this.#speakers.numberOf(speaker) % COLORS;
    if (item.previousSibling && this.#turn(item.previousSibling).speaker === speaker) return;
    const label = document.createElement("span");
    label.className = "speaker";
    label.textContent = this.#speakers.nameOf(speaker);
    item.lastChild.before(label);
  }

  #follow() {
    if (!this.#empty.hidden || this.#correcting.isOpen) return; // without captions the view stays at the top
    if (this.#follows) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
      this.#top = this.#scroller.scrollTop; // the reader may scroll up before the event of this
    } else {
      this.#latest.hidden = false;
    }
  }

  /** Stop following when the reader scrolls up, until they are back at the end. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight < NEAR) this.#follows = true;
    else if (scrollTop < this.#top) this.#follows = false;
    this.#top = scrollTop;
    this.#latest.hidden = this.#follows;
    this.#word.hidden = true;
  }

  /** Show the time and the confidence of the word under the pointer. */
  #point({ clientX, clientY }) {
    const word = this.#correcting.isOpen ? null : wordAt((paragraph) => this.#turnOf.get(paragraph), clientX, clientY);
    this.#word.hidden = word?.place.element.ts === undefined;
    if (this.#word.hidden) return word;
    const { ts, end_ts = ts, confidence } = word.place.element;
    const sure = confidence === undefined ? "" : ` · ${Math.round(confidence * 100)} % confidence`;
    this.#word.textContent = `${ts.toFixed(2)} – ${end_ts.toFixed(2)} s${sure}`;
    const left = Math.min(Math.max(word.box.left + word.box.width / 2, 90), innerWidth - 90);
    this.#word.style.translate = `calc(${left}px - 50%) calc(${word.box.top}px - 100% + 2px)`;
    return word;
  }

  /** A finger cannot hover: the first touch of a word shows its time and confidence, and the second one corrects it. */
  #touched(event) {
    const before = this.#pointed;
    this.#pointed = this.#point(event)?.place.element;
    this.#mayCorrect = event.pointerType !== "touch" || (before !== undefined && before === this.#pointed);
  }

  #clicked({ clientX, clientY }) {
    const isSelecting = !getSelection().isCollapsed;
    if (!this.#mayCorrect || isSelecting) return;
    const word = wordAt((paragraph) => this.#turnOf.get(paragraph), clientX, clientY);
    if (!word) return;
    this.#word.hidden = true;
    const number = places(word.turn).findIndex(({ element }) => element === word.place.element);
    this.#correcting.open(word.paragraph, word.turn, number);
  }
}
