"""examples/recorder.html in real browsers: what their own MediaRecorder records is heard while it is said."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from difflib import SequenceMatcher
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.browser import ENGINE, happens, opened, speech
from tests.helpers.clip import SPOKEN
from tests.helpers.cutting import cut_wire
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.other_browser)]),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 11  # of speech

WITNESS = """
window.heard = []; window.sent = 0; window.isToCut = false;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (message) {
  if (!this.onheard) {
    this.onheard = ({ data }) => heard.push([JSON.parse(data), sent]);
    this.addEventListener("message", this.onheard);
  }
  if (isToCut && message instanceof Blob && message.size > 1) {
    send.call(this, message.slice(0, message.size / 2));
    send.call(this, "EOS");
    WebSocket.prototype.send = () => {};
    return;
  }
  sent += message.size ?? 0;
  send.call(this, message);
};
"""
# In the microphone's place, the recording as it is: Chromium filters a microphone's sound, and Firefox' own hums.
MICROPHONE = """
navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  const audio = await (await fetch("speech.wav")).arrayBuffer();
  const source = new AudioBufferSourceNode(context, { buffer: await context.decodeAudioData(audio) });
  const destination = new MediaStreamAudioDestinationNode(context);
  source.connect(destination);
  source.start();
  return destination.stream;
};
"""


@contextmanager
def pages(folder: Path) -> Iterator[str]:
    """Serve the examples, and a recording, as another server than ours would; yields the origin."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            name = Path(path.partition("?")[0]).name
            return str((folder if name == "speech.wav" else EXAMPLES) / name)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 # the inherited name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="pages")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def recording(engine: str, folder: Path, **settings: Any) -> AsyncIterator[Page]:
    """Open the page, and have it record."""
    speech(folder)
    token = ENGINE.set(engine)
    try:
        with pages(folder) as origin:
            async with service(None, origins=origin, **settings) as server:
                url = f"{origin.replace('http', 'ws', 1)}/recorder.html?service={server.url}"
                async with opened(url, before=WITNESS + MICROPHONE) as page:
                    await page.get_by_role("button", name="Record").click()
                    await happens(page, "document.getElementById('state').textContent === 'recording'")
                    yield page
    finally:
        ENGINE.reset(token)


async def ended(page: Page) -> tuple[str, str, list[tuple[dict[str, Any], int]], int]:
    """Wait for the end; return how it closed, the finals on the page, the messages, and how much was sent."""
    await happens(page, "/^\\d/.test(document.getElementById('state').textContent)")
    state, final, heard, sent = await page.evaluate(
        "[document.getElementById('state').textContent, document.getElementById('final').textContent, heard, sent]"
    )
    return state, final, heard, sent


def likeness(final: str, said: str) -> float:
    """Tell how alike the words are: on a busy machine a browser drops some of what its microphone hears."""
    return SequenceMatcher(None, said.split(), final.split()).ratio()


async def test_what_is_recorded_is_heard_while_it_is_said(engine: str, tmp_path: Path) -> None:
    async with recording(engine, tmp_path) as page:
        await asyncio.sleep(SECONDS)
        await page.get_by_role("button", name="Stop").click()
        state, final, heard, sent = await ended(page)
    assert state.startswith("1000 ")
    assert likeness(final, " ".join(SPOKEN)) > 0.85
    assert any(message["type"] == "partial" and at < sent / 2 for message, at in heard)


async def test_a_stream_that_is_cut_in_the_middle_of_a_cluster_gives_the_words_before(
    engine: str, tmp_path: Path
) -> None:
    """As when a page ends the stream at once, and does not wait for its recorder."""
    async with recording(engine, tmp_path) as page:
        await asyncio.sleep(5)
        await page.evaluate("isToCut = true")
        state, final, _, _ = await ended(page)
    assert state.startswith("1000 ")
    assert likeness(final, SPOKEN[0]) > 0.6


async def test_upstream_breaks_are_not_noticed(engine: str, tmp_path: Path) -> None:
    """The recognizer's connections break after 100,000 bytes, 3 s of samples; the recorder's stream goes on."""
    lives = iter([100_000, 130_000])
    async with (
        service(None) as recognizer,
        cut_wire(recognizer.url, lambda: next(lives, None)) as wire,
        recording(engine, tmp_path, revai_url=wire.url) as page,
    ):
        await asyncio.sleep(SECONDS)
        await page.get_by_role("button", name="Stop").click()
        state, final, _, _ = await ended(page)
        assert wire.cuts == 2
    assert state.startswith("1000 ")
    assert likeness(final, " ".join(SPOKEN)) > 0.85
