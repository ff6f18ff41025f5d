// The dialog "Share": whether others may read along, and how they come to it.

const LOCAL = /^(localhost|.*\.localhost|127\.[\d.]+|\[::1\])$/; // hosts that are each machine's own

const $ = (id) => document.getElementById(id);

export class Sharing {
  #token = null;

  constructor() {
    $("open-share").addEventListener("click", () => $("share").showModal());
    $("share-on").addEventListener("change", () => this.#show());
    $("share-copy").addEventListener("click", async ({ target }) => {
      try {
        await navigator.clipboard.writeText($("share-link").value);
        target.textContent = "Copied";
      } catch {
        $("share-link").select(); // the browser does not allow it: the user copies it
      }
    });
    this.#show();
  }

  /** Whether the next stream is to be shared. */
  get isOn() {
    return $("share-on").checked;
  }

  /** Show how to read along what is recorded with this token; null when nothing is recorded any more. */
  shared(token) {
    this.#token = token;
    this.#show();
  }

  #show() {
    const isRead = this.isOn && this.#token !== null;
    $("share-how").hidden = !isRead;
    $("share-status").textContent = isRead
      ? "Whoever has this link reads along, without a key, up to an hour after the end."
      : this.isOn
        ? "The link appears when the next recording begins."
        : "";
    $("share-local").hidden = !(this.isOn && LOCAL.test(location.hostname));
    $("share-copy").textContent = "Copy";
    document.documentElement.toggleAttribute("data-shared", isRead);
    if (!isRead) return;
    const page = new URL(".", location.href).href;
    $("share-link").value = `${page}?read=${this.#token}`;
    $("share-code").src = `read/${this.#token}.svg?page=${encodeURIComponent(page)}`;
  }
}
