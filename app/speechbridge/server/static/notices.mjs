// The notice above the controls: one at a time, announced to screen readers.

const LABELS = { again: "Try again", resume: "Resume", recover: "Transcribe now" };

const $ = (id) => document.getElementById(id);

export class Notices {
  #box = $("notice");
  #actions;

  /** `actions` are functions by the name that a notice gives its action; `key(key, isKept)` takes an API key. */
  constructor({ key, ...actions }) {
    this.#actions = actions;
    $("dismiss").addEventListener("click", () => {
      this.hide();
      $("start").focus();
    });
    $("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const value = $("key").value.trim();
      $("key").value = "";
      this.hide();
      key(value, $("keep-key").checked);
    });
  }

  /** Show a notice, `{ key, title, text, reason, action }`, in place of any other. */
  show({ key, title, text, reason = "", action }) {
    this.#box.dataset.key = key;
    this.#box.querySelector("h2").textContent = title;
    this.#box.querySelector(".text").textContent = text;
    this.#box.querySelector(".reason").textContent = reason && `Reason: ${reason}`;
    $("key-form").hidden = action !== "key";
    const label = LABELS[action];
    $("act").hidden = !label;
    $("act").textContent = label ?? "";
    $("act").onclick = () => {
      this.hide();
      this.#actions[action]();
    };
    this.#box.hidden = false;
    if (action === "key") $("key").focus();
  }

  /** Show a notice unless there is one. */
  mention(notice) {
    if (!this.#box.dataset.key) this.show(notice);
  }

  /** Hide a notice: the one with that key, if it is shown, or any. */
  hide(key = this.#box.dataset.key) {
    if (this.#box.dataset.key !== key) return;
    delete this.#box.dataset.key;
    this.#box.hidden = true;
  }
}
