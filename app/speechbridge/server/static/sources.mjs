// The choice of the audio source.

import { remember, remembered } from "./remembered.mjs";
import { canShareTabs } from "./sound.mjs";

const select = document.getElementById("source");
const NO_TABS = new Option("Another tab (only in Chrome and Edge)", "");
NO_TABS.disabled = true;

/** List this browser's sources. `isLocked` keeps the current choice; `wanted` is part of a microphone's name. */
export async function listSources(isLocked, wanted = "") {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const microphones = devices.filter(
    ({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default",
  );
  const named = microphones.filter(({ label }) => label); // browsers hide the names until the user allows access
  const options = [
    new Option("Default microphone", "microphone"),
    ...named.map(({ deviceId, label }) => new Option(label, `microphone ${deviceId}`)),
    new Option("A file …", "file"),
    canShareTabs() ? new Option("Another tab …", "tab") : NO_TABS,
  ];
  const matching = wanted && named.find(({ label }) => label.toLowerCase().includes(wanted.toLowerCase()));
  const chosen = (!isLocked && remembered("source")) || select.value;
  select.replaceChildren(...options);
  select.value = matching ? `microphone ${matching.deviceId}` : chosen;
  if (!select.value) select.value = "microphone";
}

select.addEventListener("change", () => remember("source", select.value));

/** The chosen source: `{ kind, device }`. */
export function source() {
  const [kind, device] = select.value.split(" ");
  return { kind, device };
}
