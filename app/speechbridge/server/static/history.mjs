// The dialog with the transcripts on this device.

import { download } from "./exporting.mjs";
import { titleOf } from "./transcript.mjs";
import { time } from "./words.mjs";

const DELAY = 150; // ms between a key press in the search and the search

const $ = (id) => document.getElementById(id);

export class History {
  #opening;
  #library = null;
  #on;
  #records = [];
  #restore = null; // restores what was deleted last
  #searching;
  #searches = 0;

  /**
   * `opening` is a promise of the library, or of null if the browser blocks storage. Callbacks in `on`: `open(id)`,
   * `begin()` for a new transcript, `renamed(id, title)`, `removed(id)`; `canRemove(id)`, a promise; `current()`
   * returns the id of the transcript on the page; `isRecording()` says whether the page must stay with it.
   */
  constructor(opening, on) {
    this.#opening = opening;
    this.#on = on;
    $("open-history").addEventListener("click", () => this.show());
    $("new").addEventListener("click", () => this.#leave(() => on.begin()));
    $("search").addEventListener("input", () => {
      clearTimeout(this.#searching);
      this.#searching = setTimeout(() => this.#search(), DELAY);
    });
    $("search").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // browsers disagree on whether it clears the field or closes the dialog
      if (!$("search").value) $("history").close();
      $("search").value = "";
      this.#search();
    });
    $("undo").addEventListener("click", () => this.#undo());
    $("delete-all").addEventListener("click", () => this.#removeAll());
    $("transcripts").addEventListener("click", (event) => this.#clicked(event));
    $("transcripts").addEventListener("submit", (event) => this.#renamed(event));
    $("transcripts").addEventListener("keydown", (event) => {
      if (event.key === "Escape" && event.target.matches(".rename input")) {
        event.preventDefault(); // close the field, not the dialog
        this.#list(this.#records.map((record) => ({ record })));
      }
    });
  }

  async show() {
    this.#say("");
    $("search").value = "";
    $("transcripts").replaceChildren();
    $("none").textContent = "Opening …";
    $("none").hidden = false;
    $("history").showModal();
    this.#library = await this.#opening;
    await this.#load();
    navigator.storage?.persist?.(); // ask the browser not to clear it when space is short
  }

  #leave(act) {
    $("history").close();
    act();
  }

  async #load() {
    this.#records = (await this.#library?.list()) ?? [];
    await this.#search();
  }

  async #search() {
    const search = ++this.#searches;
    const query = $("search").value.trim();
    const found = this.#library ? await this.#library.search(this.#records, query) : [];
    if (search === this.#searches) this.#list(found, query);
  }

  #list(found, query = "") {
    $("transcripts").replaceChildren(...found.map((each) => this.#item(each)));
    $("none").hidden = found.length > 0;
    $("none").textContent = !this.#library
      ? "This browser does not allow the page to store transcripts."
      : query
        ? `No transcript contains “${query}”.`
        : "Transcripts appear here as soon as something was said.";
    $("delete-all").hidden = this.#records.length === 0;
    $("delete-all").textContent = "Delete all";
  }

  #item({ record, excerpt }) {
    const item = $("transcript").content.cloneNode(true).firstElementChild;
    const isCurrent = record.id === this.#on.current();
    item.dataset.id = record.id;
    item.querySelector("strong").textContent = titleOf(record);
    item.querySelector(".when").textContent =
      `${dateOf(record)} · ${time(record.seconds)}${isCurrent ? " · shown now" : ""}`;
    const shown = item.querySelector(".excerpt");
    if (excerpt) {
      const mark = document.createElement("mark");
      mark.textContent = excerpt.match;
      shown.append(excerpt.before, mark, excerpt.after);
    }
    item.querySelector(".open").disabled = this.#on.isRecording() && !isCurrent;
    item.querySelector("[data-do=delete]").disabled = this.#on.isRecording() && isCurrent;
    item.querySelector("summary").ariaLabel = `More for ${titleOf(record)}`;
    return item;
  }

  async #clicked({ target }) {
    const item = target.closest("li");
    const record = this.#records.find(({ id }) => id === item?.dataset.id);
    if (!record) return;
    const action = target.closest("[data-do]")?.dataset.do;
    if (target.closest(".open")) this.#leave(() => this.#on.open(record.id));
    else if (action === "rename") this.#rename(item, record);
    else if (action === "delete") this.#remove(record);
    else if (action) {
      const { finals } = await this.#library.load(record.id);
      download(titleOf(record), action, finals);
      this.#say(`Saved as ${action.toUpperCase()}`);
    }
  }

  #rename(item, record) {
    const [form, input] = [item.querySelector(".rename"), item.querySelector(".rename input")];
    item.querySelector(".open").hidden = item.querySelector("details").hidden = true;
    form.hidden = false;
    input.value = titleOf(record);
    input.select();
  }

  async #renamed(event) {
    event.preventDefault();
    const { id } = event.target.closest("li").dataset;
    const title = event.target.querySelector("input").value.trim();
    await this.#library.rename(id, title);
    this.#on.renamed(id, title);
    this.#say("Renamed");
    await this.#load();
    $("transcripts")
      .querySelector(`[data-id="${CSS.escape(id)}"] .open`)
      ?.focus();
  }

  async #remove({ id }) {
    if (!(await this.#on.canRemove(id))) {
      this.#say("Not deleted: it is open in another tab");
      return;
    }
    this.#restore = await this.#library.remove(id);
    this.#on.removed(id);
    await this.#load();
    this.#say("Deleted", true);
    $("undo").focus();
  }

  async #removeAll() {
    if ($("delete-all").textContent === "Delete all") {
      $("delete-all").textContent = `Click again to delete ${this.#records.length}`;
      return;
    }
    const restores = [];
    for (const { id } of this.#records) {
      if (!(await this.#on.canRemove(id))) continue; // it is being recorded, or open in another tab
      restores.push(await this.#library.remove(id));
      this.#on.removed(id);
    }
    this.#restore = () => Promise.all(restores.map((restore) => restore()));
    await this.#load();
    this.#say("Deleted", true);
    $("undo").focus();
  }

  async #undo() {
    await this.#restore();
    await this.#load();
    this.#say("Restored");
    $("search").focus();
  }

  #say(text, canUndo = false) {
    $("history-status").textContent = text;
    $("undo").hidden = !canUndo;
  }
}

function dateOf({ created }) {
  return new Date(created).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
