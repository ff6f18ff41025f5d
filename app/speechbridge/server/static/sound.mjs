// Audio sources: a microphone, a file, another tab. Each gives frames of 100 ms, 16 kHz, 16 bits.

import { Problem } from "./words.mjs";

const AFTER_PAUSE = 1_000; // ms of silence that follow a paused file, so that its last utterance becomes final
const BLOCKED = 500; // ms within which an AudioContext starts if the browser allows it without a click or key press
const NO_OUTPUT = 5_000; // ms within which one starts after a click or key press, unless there is no output device
const LAST_FRAME = 500; // ms to wait for the last frame; an interrupted context never delivers it

/**
 * Open a source. Call it from a click or key handler, or browsers may not start the audio.
 *
 * `choice` is `{ kind, device, file }`. Callbacks in `on`: `frame({ samples, levels, time })`, where `time` is the end
 * of the frame on the audio clock; `interrupted(bool)`; `played(player)`, for a file, whenever its position changes;
 * `ended(problem)` when the source ends by itself, with null if that is normal. Throws Problem.
 */
export async function open(choice, on) {
  if (!isSecureContext) throw new Problem("insecure");
  if (!globalThis.AudioWorkletNode || !navigator.mediaDevices) throw new Problem("no-worklet");
  const context = new AudioContext(); // at the device's own rate: Firefox does not convert
  const sound = new Sound(context, on);
  try {
    await sound.start(await SOURCES[choice.kind](context, choice));
  } catch (error) {
    await sound.stop();
    throw error;
  }
  return sound;
}

/** Whether the browser can share the audio of another tab. Only browsers that can know this constraint. */
export function canShareTabs() {
  const { getDisplayMedia, getSupportedConstraints } = navigator.mediaDevices ?? {};
  return Boolean(getDisplayMedia && getSupportedConstraints?.call(navigator.mediaDevices).suppressLocalAudioPlayback);
}

class Sound {
  delay = 0; // ms that a sound needs to reach the audio clock, as reported by the browser
  #context;
  #on;
  #source;
  #frames;
  #isLast = false;

  constructor(context, on) {
    this.#context = context;
    this.#on = on;
  }

  async start(source) {
    this.#source = source;
    this.delay = (source.delay ?? 0) * 1000;
    try {
      await this.#context.audioWorklet.addModule(new URL("worklet.mjs", import.meta.url));
    } catch (error) {
      throw new Problem("unreachable", { cause: error });
    }
    const frames = (this.#frames = new AudioWorkletNode(this.#context, "frames", {
      channelCount: 1,
      channelCountMode: "explicit", // all channels are mixed to one
    }));
    frames.port.onmessage = ({ data }) => {
      this.#isLast = data.last;
      const { pausedAt = Infinity } = source;
      if (performance.now() - pausedAt < AFTER_PAUSE || pausedAt === Infinity) this.#on.frame(data);
    };
    source.onended = (problem) => this.#on.ended(problem);
    source.onplayed = () => this.#on.played(source.player);
    source.node.connect(frames).connect(this.#context.destination); // silent; unconnected nodes may sleep
    // iOS reports "interrupted"; some browsers report "suspended" instead.
    this.#context.onstatechange = () => this.#on.interrupted(this.#context.state !== "running");
    // After a click or a key press every browser lets a context run, but Firefox needs an output device for it.
    const isAllowed = navigator.userActivation?.hasBeenActive;
    await Promise.race([this.resume(isAllowed ? NO_OUTPUT : BLOCKED), source.failed ?? new Promise(() => {})]);
    if (this.#context.state !== "running") throw new Problem(isAllowed ? "no-output" : "gesture");
    await source.play?.();
  }

  /** The controls of a file; undefined for other sources. */
  get player() {
    return this.#source?.player;
  }

  /** Try to resume interrupted audio. */
  async resume(patience = BLOCKED) {
    await Promise.race([this.#context.resume().catch(() => {}), wait(patience)]);
  }

  /** Deliver the last frame and release the device. */
  async stop() {
    this.#context.onstatechange = null;
    if (this.#source) this.#source.onended = () => {};
    if (this.#frames) {
      this.#frames.port.postMessage("stop");
      for (let waited = 0; !this.#isLast && waited < LAST_FRAME; waited += 10) await wait(10);
    }
    this.#source?.close();
    await this.#context.close();
  }
}

// Each returns `{ node, delay, play, close }`, and calls `onended(problem)` when it ends by itself. A file has `player`
// and `pausedAt` too, calls `onplayed()`, and may be found unreadable before it is played: then `failed` is rejected.
const SOURCES = {
  async microphone(context, { device }) {
    // Noise suppression made for listeners removes sound that recognizers need. Gain control helps quiet voices.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    if (device) audio.deviceId = { exact: device };
    const media = await ask(navigator.mediaDevices.getUserMedia({ audio }), "denied");
    return captured(context, media, "unplugged");
  },

  async tab(context) {
    if (!canShareTabs()) throw new Problem("no-tab-sharing");
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    // Browsers share a tab's audio only with its video, which is not used.
    const media = await ask(navigator.mediaDevices.getDisplayMedia({ audio, video: true }), "not-shared");
    if (!media.getAudioTracks().length) {
      for (const track of media.getTracks()) track.stop();
      throw new Problem("no-tab-sound");
    }
    return captured(context, media, null);
  },

  async file(context, { file }) {
    const url = URL.createObjectURL(file);
    const element = new Audio(url); // decodes while it plays, so long files need little memory
    const node = context.createMediaElementSource(element);
    node.connect(context.destination);
    const play = () =>
      element.play().catch(() => {
        throw new Problem("unreadable-file");
      });
    const source = {
      node,
      play,
      failed: new Promise((_, reject) => {
        element.onerror = () => reject(new Problem("unreadable-file"));
      }),
      pausedAt: undefined,
      player: {
        name: file.name,
        get position() {
          return element.currentTime;
        },
        get duration() {
          return Number.isFinite(element.duration) ? element.duration : undefined; // some recordings do not have it
        },
        get isPaused() {
          return source.pausedAt !== undefined;
        },
        toggle() {
          if (element.paused) play().catch(() => source.onended("unreadable-file"));
          else element.pause();
          source.pausedAt = element.paused ? performance.now() : undefined;
          source.onplayed();
        },
        seek(seconds) {
          element.currentTime = Math.max(0, Math.min(seconds, element.duration || 0));
        },
      },
      close() {
        element.onended = element.ontimeupdate = null;
        element.pause();
        URL.revokeObjectURL(url);
      },
    };
    element.onended = () => source.onended(null);
    source.failed.catch(() => source.onended?.("unreadable-file"));
    element.ontimeupdate = element.ondurationchange = () => source.onplayed?.();
    return source;
  },
};

function captured(context, media, ending) {
  const [track] = media.getAudioTracks();
  const source = {
    node: context.createMediaStreamSource(media),
    delay: track.getSettings().latency,
    close() {
      for (const each of media.getTracks()) each.stop();
    },
  };
  track.onended = () => source.onended(ending);
  return source;
}

async function ask(media, refused) {
  try {
    return await media;
  } catch (error) {
    const problems = {
      NotAllowedError: refused,
      SecurityError: refused,
      NotFoundError: "no-microphone",
      OverconstrainedError: "no-microphone",
    };
    throw new Problem(problems[error.name] ?? "busy", { cause: error });
  }
}

function wait(ms) {
  return new Promise((done) => setTimeout(done, ms));
}
