"""Errors come with their fix: each notice is provoked in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from speechbridge.server.admission import make_key
from speechbridge.server.websocket import WebSocketProtocol
from tests.helpers.browser import (
    ALLOWED,
    FAKE,
    every_engine,
    expect,
    noticed,
    opened,
    refuse,
    silence,
    speech,
    state,
    wav,
)
from tests.helpers.cutting import cut_wire
from tests.helpers.puppet import until
from tests.helpers.secrets import KNOWN
from tests.helpers.service import service

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page, Route


async def start(page: Page) -> None:
    await page.get_by_role("button", name="Start").click()


async def no_notice(page: Page) -> None:
    await expect(page.locator("#notice")).to_be_hidden()


async def test_the_microphone_is_blocked_and_then_allowed() -> None:
    async with service() as server, opened(server.url, flags=(FAKE,)) as page:
        await start(page)
        await noticed(page, "The microphone is blocked", "allow the microphone")
        await state(page, "stopped")
        await page.context.grant_permissions(["microphone"])
        await page.get_by_role("button", name="Try again").click()
        await state(page, "live")
        await no_notice(page)


async def test_there_is_no_microphone() -> None:
    async with service() as server, opened(server.url, flags=(ALLOWED,)) as page:
        await start(page)
        await noticed(page, "No microphone found", "Plug one in")


BUSY = """
navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("in use", "NotReadableError"); };
"""


@every_engine
async def test_another_application_holds_the_microphone() -> None:
    async with service() as server, opened(server.url, before=BUSY) as page:
        await start(page)
        await noticed(page, "The microphone cannot be opened", "Close that application")


TRACKS = """
window.tracks = [];
const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  const media = await getUserMedia(asked);
  tracks.push(...media.getAudioTracks());
  return media;
};
"""


async def test_an_unplugged_microphone_ends_the_stream_with_its_last_words() -> None:
    async with service() as server, opened(server.url, before=TRACKS) as page:
        await start(page)
        await state(page, "live")
        await page.evaluate("tracks[0].dispatchEvent(new Event('ended'))")
        await noticed(page, "The microphone was disconnected", "Plug it in")
        await state(page, "ended")
        await page.get_by_role("button", name="Try again").click()
        await state(page, "live")


async def test_the_address_is_neither_https_nor_localhost() -> None:
    flags = (ALLOWED, FAKE, "--host-resolver-rules=MAP captions.example 127.0.0.1")
    async with service() as server:
        url = server.url.replace("127.0.0.1", "captions.example")
        async with opened(url, flags=flags) as page:
            await noticed(page, "The browser blocks microphones at this address", "https://captions.example")
            await expect(page.get_by_role("alert")).to_contain_text(re.compile(r"http://localhost:\d+"))
            await page.get_by_role("button", name="Dismiss").click()
            await start(page)
            await noticed(page, "The browser blocks microphones at this address", "localhost")


async def test_the_browser_is_too_old() -> None:
    async with service() as server, opened(server.url, before="delete window.AudioWorkletNode") as page:
        await noticed(page, "This browser is too old for live audio", "AudioWorklet")


CONTEXTS = """
window.contexts = [];
const Context = AudioContext;
window.AudioContext = class extends Context { constructor(...given) { super(...given); contexts.push(this); } };
"""


async def test_another_application_takes_the_audio_and_releases_it() -> None:
    async with service() as server, opened(server.url, before=CONTEXTS) as page:
        await start(page)
        await state(page, "live")
        await page.evaluate("contexts[0].suspend()")
        await noticed(page, "Another application has taken the audio", "resume")
        await state(page, "interrupted")
        await page.get_by_role("button", name="Resume").click()
        await state(page, "live")
        await no_notice(page)


async def test_the_microphone_is_silent_until_it_is_not(tmp_path: Path) -> None:
    later = wav(tmp_path / "later.wav", bytes(2 * 16000 * 9) + speech(tmp_path).read_bytes()[44:])
    async with service() as server, opened(server.url, microphone=later) as page:
        await start(page)
        await state(page, "live")
        await state(page, "silent")
        await noticed(page, "No sound", "muted")
        await state(page, "live")
        await no_notice(page)


@every_engine
async def test_a_file_without_audio(tmp_path: Path) -> None:
    path = tmp_path / "speech.mp3"
    path.write_text("no sound")
    async with service() as server, opened(server.url) as page:
        await page.locator("#file").set_input_files(path)
        await noticed(page, "This file cannot be played", "WAV")
        await state(page, "stopped")


# Chromium lets a page that may use the microphone start audio at once; other browsers do not.
STRICT = """
let clicked = false;
addEventListener("click", () => clicked = true, true);
// What a test evaluates in the page counts as a gesture of its user.
Object.defineProperty(navigator, "userActivation", { get: () => ({ hasBeenActive: clicked }) });
const Context = AudioContext;
window.AudioContext = class extends Context {
  get state() { return clicked ? super.state : "suspended"; }
  async resume() { return clicked ? super.resume() : new Promise(() => {}); }
};
"""


async def test_an_overlay_that_may_not_start_by_itself_asks_for_a_click() -> None:
    async with service() as server, opened(f"{server.url}/?view=overlay", before=STRICT) as page:
        await noticed(page, "Click to start", "click")
        await page.locator("html").click(position={"x": 600, "y": 500})
        await state(page, "live")
        await no_notice(page)


@every_engine
async def test_part_of_the_page_cannot_be_loaded() -> None:
    before = "AudioWorklet.prototype.addModule = async () => { throw new DOMException('none', 'AbortError'); };"
    async with service() as server, opened(server.url, before=before) as page:
        await start(page)
        await noticed(page, "The service does not respond", "network connection")


async def test_evicted_audio_is_reported_in_seconds(tmp_path: Path) -> None:
    async def little_room(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=(await answer.text()).replace("2 ** 21", "2 ** 15"))

    life: int | None = None
    async with (
        service() as server,
        cut_wire(server.url, lambda: life) as wire,
        opened(wire.url, microphone=speech(tmp_path)) as page,
    ):
        await page.route("**/stream.mjs", little_room)
        await page.reload()
        life = 30_000
        await start(page)
        await state(page, "live")
        life = 0
        await expect(page.locator("#details")).to_have_text(re.compile(r"^1\.0 s buffered, \d\.\d s lost$"))
        await noticed(page, "The service cannot be reached", "keeps trying")
        life = None
        await state(page, "live")
        notice = page.get_by_role("alert")
        await expect(notice.get_by_role("heading")).to_have_text(re.compile(r"^\d\.\d s of audio were lost$"))
        await expect(page.locator("#details")).to_have_text("")


CLOSES = {
    4003: "The speech service’s account has no credits",  # noqa: RUF001 # a typographic apostrophe
    4013: "No recognizer is free",
    4029: "The service is full",
    4030: "Too many sessions",
    4031: "Too many attempts",
    4032: "Too much audio at once",
    4033: "Too many messages at once",
    4034: "The time limit was reached",
    4035: "The connection was idle for too long",
    4036: "This address may not use the service",
    1011: "The speech service failed",
}


async def test_each_refusal_is_shown_with_the_service_s_reason(tmp_path: Path) -> None:
    async with service() as server, opened(server.url, microphone=silence(tmp_path), once=False) as page:
        for code, title in CLOSES.items():
            await refuse(page, code, f"because of {code}")
            await start(page)
            await noticed(page, title, f"Reason: because of {code}")
            await state(page, "stopped")


async def test_the_page_asks_for_a_key_and_sends_it_with_every_handshake(tmp_path: Path) -> None:
    key, line = make_key("alice")
    KNOWN.add(key)
    async with (
        service(api_keys=line) as server,
        opened(server.url, microphone=silence(tmp_path), once=False) as page,
    ):
        await start(page)
        await noticed(page, "An API key is required", "Reason: an API key is needed")
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await noticed(page, "This API key is not accepted", "Reason: this API key is not known")
        await page.keyboard.type(key)
        await page.keyboard.press("Enter")
        await state(page, "live")
        await no_notice(page)
        (first,) = [found for found in server.connections if isinstance(found, WebSocketProtocol)]
        first.transport.abort()
        await until(lambda: any(isinstance(c, WebSocketProtocol) and c is not first for c in server.connections))
        await state(page, "live")
        assert server.app.state.sessions.alive == 1  # it resumed the same session
        assert await page.evaluate("JSON.stringify(localStorage)") == "{}"


@pytest.mark.parametrize("sound", [True, False], ids=["with audio", "without audio"])
async def test_a_tab_is_shared(sound: bool) -> None:  # noqa: FBT001 # a test parameter
    """A fake tab: headless Chromium has none to choose from."""
    before = f"""
    navigator.mediaDevices.getDisplayMedia = async () => {{
      const context = new AudioContext();
      const tone = context.createOscillator(), tab = context.createMediaStreamDestination();
      tone.connect(tab); tone.start();
      const media = document.createElement("canvas").captureStream();
      if ({str(sound).lower()}) media.addTrack(tab.stream.getAudioTracks()[0]);
      return media;
    }};
    """
    async with service() as server, opened(server.url, before=before) as page:
        await page.get_by_label("Source").select_option("tab")
        await start(page)
        if sound:
            await state(page, "live")
        else:
            await noticed(page, "The tab was shared without its audio", "tick")


async def test_no_tab_is_shared() -> None:
    before = """
    navigator.mediaDevices.getDisplayMedia = async () => { throw new DOMException("no", "NotAllowedError"); };
    """
    async with service() as server, opened(server.url, before=before) as page:
        await page.get_by_label("Source").select_option("tab")
        await start(page)
        await noticed(page, "No tab was shared", "Select a tab")
