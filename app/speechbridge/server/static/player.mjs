// The controls of a playing file.

import { time } from "./words.mjs";

const STEP = 5; // seconds that an arrow key moves

const $ = (id) => document.getElementById(id);

export class PlayerBar {
  #player;
  #isSeeking = false; // the slider is being moved

  constructor() {
    $("play").addEventListener("click", () => this.toggle());
    $("seek").addEventListener("input", () => {
      this.#isSeeking = true;
      $("position").textContent = this.#times(Number($("seek").value));
    });
    $("seek").addEventListener("change", () => {
      this.#isSeeking = false;
      this.#player?.seek(Number($("seek").value));
    });
  }

  /** Show a file's name and progress; undefined hides them. */
  show(player) {
    this.#player = player;
    $("player").hidden = !player;
    if (!player) return;
    const { name, position, duration, isPaused } = player;
    $("file-name").textContent = $("file-name").title = name;
    $("player").dataset.paused = isPaused;
    $("play").ariaLabel = isPaused ? "Play the file" : "Pause the file";
    $("seek").disabled = duration === undefined;
    if (this.#isSeeking) return;
    $("seek").max = duration ?? 1;
    $("seek").value = duration === undefined ? 0 : position;
    $("seek").ariaValueText = $("position").textContent = this.#times(position);
  }

  toggle() {
    this.#player?.toggle();
  }

  /** Move by a step, forwards or backwards. */
  move(direction) {
    this.#player?.seek(this.#player.position + direction * STEP);
  }

  #times(position) {
    const { duration } = this.#player;
    return duration === undefined ? time(position) : `${time(position)} / ${time(duration)}`;
  }
}
