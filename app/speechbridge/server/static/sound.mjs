// Where sound comes from: a microphone, a file, another tab. It leaves as frames of 100 ms, 16 kHz, 16 bits.

import { Problem } from "./words.mjs";

const LAST_FRAME = 500; // ms to wait for it; an interrupted context never gives it

/**
 * Open a source; call it within a click or a key, or browsers may not let it run.
 *
 * `choice` is `{ kind, device, file }`. `on` is told: `frame({ samples, levels, time })`, with the audio clock's time of
 * its end; `interrupted(bool)`; `ended(problem)` when the source ends by itself, null when that is no problem. Throws
 * Problem.
 */
export async function open(choice, on) {
  if (!isSecureContext) throw new Problem("insecure");
  if (!globalThis.AudioWorkletNode || !navigator.mediaDevices) throw new Problem("no-worklet");
  const context = new AudioContext(); // at the device's own rate: Firefox mixes no two
  const sound = new Sound(context, on);
  try {
    await sound.start(await SOURCES[choice.kind](context, choice));
  } catch (error) {
    await sound.stop();
    throw error;
  }
  return sound;
}

class Sound {
  delay = 0; // ms between the air and the audio clock, as far as the browser says
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
      channelCountMode: "explicit", // whatever it has is mixed to one channel
    }));
    frames.port.onmessage = ({ data }) => {
      this.#isLast = data.last;
      this.#on.frame(data);
    };
    source.onended = (problem) => this.#on.ended(problem);
    source.node.connect(frames).connect(this.#context.destination); // silent; unconnected nodes may sleep
    // iOS says "interrupted", and some browsers "suspended" where they mean it.
    this.#context.onstatechange = () => this.#on.interrupted(this.#context.state !== "running");
    await this.resume();
    if (this.#context.state !== "running") throw new Problem("gesture");
    await source.play?.();
  }

  /** Try to get an interrupted sound back. */
  async resume() {
    await Promise.race([this.#context.resume().catch(() => {}), wait(LAST_FRAME)]);
  }

  /** Take what was heard until now, and let go of the device. */
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

// Each gives `{ node, delay, play, close }`, and calls `onended(problem)` when it ends by itself.
const SOURCES = {
  async microphone(context, { device }) {
    // Cleaning up for the ears takes away what recognizers hear; a quiet voice may be made louder.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    if (device) audio.deviceId = { exact: device };
    const media = await ask(navigator.mediaDevices.getUserMedia({ audio }), "denied");
    return captured(context, media, "unplugged");
  },

  async tab(context) {
    if (!navigator.mediaDevices.getDisplayMedia) throw new Problem("no-tab-sound");
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    // Browsers share no sound without a picture; nothing looks at it.
    const media = await ask(navigator.mediaDevices.getDisplayMedia({ audio, video: true }), "not-shared");
    if (!media.getAudioTracks().length) {
      for (const track of media.getTracks()) track.stop();
      throw new Problem("no-tab-sound");
    }
    return captured(context, media, null);
  },

  async file(context, { file }) {
    const url = URL.createObjectURL(file);
    const element = new Audio(url); // decodes as it plays: an hour's file takes no hour's memory
    const node = context.createMediaElementSource(element);
    node.connect(context.destination);
    const source = {
      node,
      play: () =>
        element.play().catch(() => {
          throw new Problem("unreadable-file");
        }),
      close() {
        element.onended = element.onerror = null;
        element.pause();
        URL.revokeObjectURL(url);
      },
    };
    element.onended = () => source.onended(null);
    element.onerror = () => source.onended?.("unreadable-file");
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
