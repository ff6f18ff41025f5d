// The level meter: bars for the last few seconds.

const BAR = 3; // px, width of a bar and of the gap
const MOST = 2_000; // bars, on the widest screen
const FLOOR = 60; // dB below full scale: the shortest bar

export class Meter {
  #box = document.getElementById("meter");
  #canvas = this.#box.querySelector("canvas");
  #brush = this.#canvas.getContext("2d");
  #levels = [];
  #isDue = false; // it will be drawn with the next animation frame, once for all levels until then

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.#box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    addEventListener("appearance", () => this.#draw());
  }

  /** Add levels, 0 to 1. */
  push(levels) {
    this.#levels = [...this.#levels, ...levels.map(loudness)].slice(-MOST); // a hidden page draws nothing
    this.#box.ariaValueNow = Math.round(Math.max(...levels.map(loudness)) * 100);
    this.#redraw();
  }

  clear() {
    this.#levels = [];
    this.#box.ariaValueNow = 0;
    this.#redraw();
  }

  #redraw() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const bars = Math.floor(width / BAR / 2);
    this.#levels = this.#levels.slice(-bars);
    this.#canvas.width = width * devicePixelRatio;
    this.#canvas.height = height * devicePixelRatio;
    this.#brush.scale(devicePixelRatio, devicePixelRatio);
    this.#brush.fillStyle = getComputedStyle(this.#canvas).color;
    for (let bar = 0; bar < bars; bar++) {
      const level = this.#levels.at(-1 - bar) ?? 0;
      const tall = BAR + level * (height - BAR);
      this.#brush.globalAlpha = bar < this.#levels.length ? 1 - 0.75 * (bar / bars) : 0.25;
      this.#brush.beginPath();
      this.#brush.roundRect(width - (bar + 1) * BAR * 2 + BAR, (height - tall) / 2, BAR, tall, BAR / 2);
      this.#brush.fill();
    }
  }
}

/** Roughly the perceived loudness: 0 at 60 dB below full scale. */
function loudness(level) {
  return Math.max(0, 1 + (20 * Math.log10(level || 1e-9)) / FLOOR) ** 2;
}
