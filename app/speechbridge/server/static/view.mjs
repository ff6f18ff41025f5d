// The captions on the page. A final is one text node, so an hour of a thousand finals does not slow down new ones.

import { line, places } from "./captions.mjs";
import { Tail } from "./tail.mjs";
import { time } from "./words.mjs";

const NEAR = 80; // px from the end: closer than this, the view follows new captions
const OVERLAID = 3; // finals that an overlay keeps

export class Captions {
  #scroller = document.getElementById("captions");
  #finals = document.getElementById("finals");
  #partial = document.getElementById("partial");
  #stable = document.getElementById("stable");
  #unstable = document.getElementById("unstable");
  #listening = document.getElementById("listening");
  #empty = document.getElementById("empty");
  #latest = document.getElementById("latest");
  #word = document.getElementById("word");
  #finalOf = new WeakMap(); // paragraph to final
  #tail = new Tail();
  #follows = true;
  #top = 0;
  #most;

  constructor(isOverlay) {
    this.#most = isOverlay ? OVERLAID : Infinity;
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#latest.addEventListener("click", () => {
      this.#follows = true;
      this.#follow();
      this.#scroller.focus();
    });
    this.#finals.addEventListener("pointermove", (event) => this.#point(event));
    this.#finals.addEventListener("pointerdown", (event) => this.#point(event));
    this.#finals.addEventListener("pointerleave", () => (this.#word.hidden = true));
    // Their height changes with new words, the window and the text size.
    const resized = new ResizeObserver(() => this.#follow());
    for (const box of [this.#scroller, this.#finals, this.#partial]) resized.observe(box);
  }

  /** Show a partial or a final. */
  show(message) {
    const text = line(message);
    if (message.type === "final") {
      if (text) this.#insert(message, text);
      this.#tail.reset();
      this.#showPartial("");
    } else {
      this.#showPartial(text);
    }
  }

  /** Show a transcript in place of what is there. */
  open(finals) {
    this.clear();
    for (const final of finals) {
      const text = line(final);
      if (text) this.#append(final, text);
    }
    this.#follows = true;
    this.#follow();
  }

  clear() {
    this.#finals.replaceChildren();
    this.#tail.reset();
    this.#showPartial("");
    this.#word.hidden = true;
    this.#empty.hidden = false;
  }

  /** Show that the service listens and has not heard a word yet. */
  set isListening(is) {
    this.#listening.hidden = !is;
    if (is && this.#finals.firstChild) this.#follow();
  }

  #showPartial(text) {
    const words = text ? text.split(" ") : [];
    const stable = this.#tail.update(words);
    const space = stable && stable < words.length ? " " : "";
    this.#stable.textContent = words.slice(0, stable).join(" ") + space;
    this.#unstable.textContent = words.slice(stable).join(" ");
    if (text) this.#empty.hidden = true;
  }

  /** Add a final as the newest. */
  #append(final, text) {
    const item = document.createElement("div");
    const when = document.createElement("time");
    const paragraph = document.createElement("p");
    when.textContent = time(final.ts);
    paragraph.textContent = text;
    item.append(when, paragraph);
    this.#finalOf.set(paragraph, final);
    this.#finals.append(item);
    this.#empty.hidden = true;
    return item;
  }

  /** Add a final where it belongs: that of a restored stream may be older than what is there. */
  #insert(final, text) {
    const item = this.#append(final, text);
    item.className = "new";
    while (item.previousSibling && this.#finalOf.get(item.previousSibling.lastChild).begin > final.begin) {
      item.previousSibling.before(item);
    }
    if (this.#finals.childElementCount > this.#most) this.#finals.firstElementChild.remove();
  }

  #follow() {
    if (!this.#empty.hidden) return; // without captions the view stays at the top
    if (this.#follows) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#latest.hidden = false;
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
    const { node, offset } = caretAt(clientX, clientY);
    const final = this.#finalOf.get(node?.parentElement);
    const place = final && places(final).find(({ from, to }) => from <= offset && offset <= to);
    const box = place && boxOf(node, place);
    const isOn =
      box && clientX >= box.left - 4 && clientX <= box.right + 4 && clientY >= box.top && clientY <= box.bottom;
    this.#word.hidden = !isOn || place.ts === undefined;
    if (this.#word.hidden) return;
    const sure = place.confidence === undefined ? "" : ` · ${Math.round(place.confidence * 100)} % confidence`;
    this.#word.textContent = `${place.ts.toFixed(2)} – ${(place.end_ts ?? place.ts).toFixed(2)} s${sure}`;
    const left = Math.min(Math.max(box.left + box.width / 2, 90), innerWidth - 90);
    this.#word.style.translate = `calc(${left}px - 50%) calc(${box.top}px - 100% + 2px)`;
  }
}

function caretAt(x, y) {
  const caret = document.caretPositionFromPoint?.(x, y);
  if (caret) return { node: caret.offsetNode, offset: caret.offset };
  const range = document.caretRangeFromPoint?.(x, y); // Safari
  return { node: range?.startContainer, offset: range?.startOffset };
}

function boxOf(node, { from, to }) {
  const range = document.createRange();
  range.setStart(node, from);
  range.setEnd(node, to);
  return range.getBoundingClientRect();
}
