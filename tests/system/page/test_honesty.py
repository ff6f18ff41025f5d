"""The page shows what is so: late captions, a service that is away, figures that are known, the right cause."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from speechbridge.protocol.messages import Element, Partial
from tests.helpers.browser import every_engine, expect, happens, noticed, opened, refuse, state, until
from tests.helpers.counted_speech import MICROPHONE, speller
from tests.helpers.cutting import cut_wire
from tests.helpers.lines import LINES, talk
from tests.helpers.service import drop_streams, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Page

    from speechbridge.protocol.request import StreamRequest

AMBER, GREEN = "rgb(110, 59, 0)", "rgb(11, 125, 82)"


async def start(page: Page) -> None:
    await page.keyboard.press("Space")
    await state(page, "live")


async def dot(page: Page, color: str) -> None:
    await expect(page.locator(".dot")).to_have_css("background-color", color)


@every_engine
async def test_it_says_that_it_listens_until_the_first_word() -> None:
    speak = threading.Event()

    def slow(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            if speak.is_set():
                speak.clear()
                yield from talk(LINES)(iter([b""]))

    async with service(slow) as server, opened(server.url) as page:
        await expect(page.get_by_text("Press Start")).to_be_visible()
        await start(page)
        for _ in range(2):
            await expect(page.get_by_text("Listening …")).to_be_visible()
            await expect(page.get_by_text("Press Start")).to_be_hidden()
            speak.set()
            await expect(page.locator("#finals > div").nth(2)).to_be_visible()
            await expect(page.get_by_text("Listening …")).to_be_hidden()
            await page.keyboard.press("Space")
            await state(page, "ended")
            await start(page)  # below the captions of before it listens again


def unhurried(audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
    """Speak as `speller` does, but no faster than twice real time, as a busy recognizer."""
    nothing = threading.Event()

    def paced() -> Iterator[bytes]:
        for chunk in audio:
            nothing.wait(len(chunk) / 64_000)
            yield chunk

    yield from speller(paced(), request)


@every_engine
async def test_after_an_outage_it_says_how_far_behind_the_captions_are() -> None:
    life: int | None = None
    async with (
        service(unhurried) as server,
        cut_wire(server.url, lambda: life) as wire,
        opened(wire.url, before=MICROPHONE, color_scheme="light") as page,
    ):
        await start(page)
        await dot(page, GREEN)
        await expect(page.locator("#latency")).to_have_text(re.compile(r"^0\.\d s$"))
        life = 0
        drop_streams(server)
        await state(page, "reconnecting")
        await dot(page, AMBER)
        await expect(page.locator("#latency")).to_have_text("–")  # noqa: RUF001 # an en dash
        await expect(page.locator("#details")).to_have_text(re.compile(r"^[5-9]\.\d s buffered$"))
        life = None
        status = page.get_by_role("status").first
        await expect(status).to_have_text("Catching up")
        await expect(page.locator("#details")).to_have_text(re.compile(r"^([4-9]|1\d) s behind$"))
        await dot(page, AMBER)
        await expect(status).to_have_text("Live")
        await dot(page, GREEN)


@every_engine
async def test_stopping_while_the_service_is_away_says_what_is_waited_for() -> None:
    life: int | None = None
    async with (
        service(speller) as server,
        cut_wire(server.url, lambda: life) as wire,
        opened(wire.url, before=MICROPHONE, color_scheme="light") as page,
    ):
        await start(page)
        life = 0
        drop_streams(server)
        await state(page, "reconnecting")
        await page.keyboard.press("Space")
        await expect(page.get_by_role("status").first).to_have_text("Waiting for the service")
        await expect(page.locator("#start-text")).to_have_text("Stop waiting")
        await dot(page, AMBER)


async def test_figures_that_are_old_are_not_shown() -> None:
    def one_word(audio: Iterator[bytes]) -> Iterator[str]:
        heard = 0
        for chunk in audio:
            heard += len(chunk)
            if heard >= 6400 > heard - len(chunk):
                yield Partial(0.0, 0.2, (Element("word", "text", 0.0, 0.2, 0.9),)).encode()

    async with service(one_word) as server, opened(server.url) as page:
        await expect(page.locator("#latency")).to_have_text("–")  # noqa: RUF001 # an en dash
        await start(page)
        await expect(page.locator("#latency")).to_have_text(re.compile(r"^\d\.\d s$"))
        await expect(page.locator("#latency")).to_have_text("–")  # noqa: RUF001 # an en dash


@every_engine
async def test_a_wrong_key_is_not_called_a_missing_one() -> None:
    async with service() as server, opened(server.url) as page:
        await refuse(page, 4001, "who are you")
        await page.keyboard.press("Space")
        await noticed(page, "An API key is required", "Ask the operator")
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await noticed(page, "This API key is not accepted", "typing errors")


@every_engine
async def test_a_token_that_the_speech_service_rejects_is_the_operator_s_business() -> None:
    async with service() as server, opened(server.url) as page:
        await start(page)
        await refuse(page, 4001, "the speech service answered HTTP 401")
        drop_streams(server)
        await noticed(page, "The speech service rejected this service", "operator")
        await expect(page.locator("#key-form")).to_be_hidden()


# Firefox without an output device: the context never runs.
NO_OUTPUT = """
window.AudioContext = class extends AudioContext {
  get state() { return "suspended"; }
  resume() { return new Promise(() => {}); }
};
"""


async def test_a_missing_audio_output_is_not_called_a_missing_click() -> None:
    async with service() as server, opened(server.url, before=NO_OUTPUT) as page:
        await page.get_by_role("button", name="Start").click()
        await noticed(page, "No audio output found", "Connect headphones or speakers")


@pytest.mark.parametrize("engine", ["firefox"], indirect=True)
async def test_firefox_without_an_audio_output_says_so() -> None:
    async with service() as server, opened(server.url, sound=False) as page:
        await page.get_by_role("button", name="Start").click()
        await noticed(page, "No audio output found", "Connect headphones or speakers")
        await state(page, "stopped")


@pytest.mark.parametrize("engine", ["firefox", "webkit"], indirect=True)
async def test_a_tab_is_offered_only_where_it_can_be_shared() -> None:
    async with service() as server, opened(server.url) as page:
        await happens(page, "document.querySelectorAll('#source option').length > 2")
        option = page.locator("#source option").last
        await expect(option).to_have_text("Another tab (only in Chrome and Edge)")
        await expect(option).to_be_disabled()


@pytest.mark.parametrize(
    "before",
    [
        "delete MediaDevices.prototype.getDisplayMedia;",
        # Firefox and Safari have it, but share no sound.
        """
        const supported = navigator.mediaDevices.getSupportedConstraints();
        delete supported.suppressLocalAudioPlayback;
        MediaDevices.prototype.getSupportedConstraints = () => supported;
        """,
    ],
    ids=["no sharing", "no sound"],
)
async def test_a_browser_that_cannot_share_a_tab_says_so(before: str) -> None:
    async with service() as server, opened(server.url, before=before) as page:
        await happens(page, "document.querySelectorAll('#source option').length > 2")
        option = page.get_by_role("option", name="Another tab")
        await expect(option).to_have_text("Another tab (only in Chrome and Edge)")
        await expect(option).to_be_disabled()


async def test_save_with_nothing_saves_nothing_and_says_so() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        saved = []
        page.on("download", lambda download: saved.append(download.suggested_filename))
        for choice in ("Copy", "TXT", "SRT", "VTT", "JSON"):
            await page.get_by_role("button", name="Save").first.click()
            await page.get_by_role("button", name=choice).click()
            await expect(page.locator("#save-text")).to_have_text("Nothing to save")
            await expect(page.locator("#save-text")).to_have_text("Save")
        await start(page)
        await until(page, 3)
        assert saved == []
