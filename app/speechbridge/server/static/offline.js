// The service worker: with it, the page opens even without a network, and can report that the service cannot be reached.
// It tries the network first, so that updates take effect at once, and keeps a copy of each answer for later.

const CACHE = "speechbridge-page";
const FILES = [
  "appearance.mjs",
  "captions.css",
  "captions.mjs",
  "codes.mjs",
  "correcting.mjs",
  "database.mjs",
  "dock.css",
  "exporting.mjs",
  "history.mjs",
  "icon-192.png",
  "icon-512.png",
  "icon-maskable.png",
  "icon.svg",
  "journal.mjs",
  "keyboard.mjs",
  "languages.mjs",
  "latency.mjs",
  "library.mjs",
  "manifest.webmanifest",
  "meter.mjs",
  "notices.mjs",
  "options.json",
  "overlay.mjs",
  "page.mjs",
  "panels.css",
  "player.mjs",
  "pointing.mjs",
  "reading.mjs",
  "recording.mjs",
  "recovery.mjs",
  "remembered.mjs",
  "resampler.mjs",
  "ring.mjs",
  "screen.mjs",
  "sharing.mjs",
  "sound.mjs",
  "sources.mjs",
  "speakers.mjs",
  "stash.mjs",
  "stream.mjs",
  "style.css",
  "tail.mjs",
  "transcript.mjs",
  "view.js",
  "view.mjs",
  "views.css",
  "words.mjs",
  "worklet.mjs",
];

const page = new URL("../", location.href).href;
const known = [page, ...FILES.map((file) => new URL(file, location.href).href)];

addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(known)));
  skipWaiting();
});

addEventListener("fetch", (event) => {
  const { searchParams } = new URL(event.request.url);
  if (searchParams.has("read")) return; // the page of a reader, at the same path
  const url = event.request.url.split(/[?#]/u)[0];
  if (event.request.method === "GET" && known.includes(url)) event.respondWith(answer(event.request, url));
});

async function answer(request, url) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(url, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(url);
    if (!kept) throw error;
    return kept;
  }
}
