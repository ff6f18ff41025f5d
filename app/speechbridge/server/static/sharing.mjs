// The dialog "Share": whether others may read along, and the link for them.

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

  /** Show the link to the recording with this token; null after the recording has ended. */
  shared(token) {
    this.#token = token;
    this.#show();
  }

  #show() {
    const isRead = this.isOn && this.#token !== null;
    $("share-how").hidden = !isRead;
    $("share-status").textContent = isRead
      ? "Anyone with this link can read along, without a key, until an hour after the end."
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
