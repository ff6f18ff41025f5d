"""The page in a real browser: Chromium, with a recording as its microphone, Firefox or WebKit.

A test with the mark `every_engine` runs in all three; any other test in Chromium.
"""

from __future__ import annotations

import asyncio
import tempfile
import wave
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import playwright.async_api
import pytest
import soundfile
from playwright.async_api import async_playwright

from tests.helpers import needs
from tests.helpers.clip import TWO_VOICES
from tests.helpers.webdriver.expecting import Expectation
from tests.helpers.webdriver.firefox import firefox
from tests.helpers.webdriver.page import Locator as DrivenLocator
from tests.helpers.webdriver.page import Page as DrivenPage
from tests.helpers.webdriver.webkit import webkit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Locator, Page
    from playwright.async_api._generated import LocatorAssertions

    from tests.helpers.webdriver.driver import Driver

RATE = 16000

FLAGS = (
    "--no-sandbox",  # without it, Chromium refuses to run as root
    "--autoplay-policy=document-user-activation-required",  # the default for users
)
ALLOWED = "--use-fake-ui-for-media-stream"  # grants the microphone without a question
FAKE = "--use-fake-device-for-media-stream"
PATIENCE = 20_000  # ms; a browser on a busy machine is slow at times

playwright.async_api.expect.set_options(timeout=PATIENCE)

ENGINE: ContextVar[str] = ContextVar("engine", default="chromium")
every_engine = pytest.mark.parametrize("engine", ["chromium", "firefox", "webkit"], indirect=True)


def expect(locator: Locator | DrivenLocator) -> LocatorAssertions:
    """Playwright's `expect`, for all engines."""
    if isinstance(locator, DrivenLocator):
        return cast("LocatorAssertions", Expectation(locator))
    return playwright.async_api.expect(locator)


def speech(folder: Path, seconds: float | None = None) -> Path:
    """Write the clip, or its beginning, as a WAV: Chromium's fake microphone plays nothing else."""
    samples, rate = soundfile.read(TWO_VOICES, -1 if seconds is None else int(seconds * RATE), dtype="int16")
    return wav(folder / "speech.wav", samples.tobytes(), rate)


def silence(folder: Path, seconds: float = 1.0) -> Path:
    return wav(folder / "silence.wav", bytes(2 * int(seconds * RATE)))


def wav(path: Path, samples: bytes, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return path


@asynccontextmanager
async def opened(
    url: str,
    *,
    microphone: Path | None = None,
    once: bool = True,
    flags: tuple[str, ...] = (ALLOWED, FAKE),
    before: str = "",
    **context: Any,
) -> AsyncIterator[Page]:
    """Open the page of a service, `ws://...`; `before` is JavaScript that runs before the page's own.

    Any error in the page, such as a violation of its security policy, fails the test. Firefox and WebKit have a humming
    microphone instead of a recording, and support only `viewport` and `color_scheme`.
    """
    if ENGINE.get() != "chromium":
        async with _driven(url.replace("ws", "http", 1), before=before, **context) as driven:
            yield cast("Page", driven)
        return
    # Without a file Chromium's microphone beeps.
    played = [f"--use-file-for-fake-audio-capture={microphone}{'%noloop' if once else ''}"] if microphone else []
    wrong: list[str] = []
    async with async_playwright() as chromium:
        browser = await chromium.chromium.launch(executable_path=needs.chromium(), args=[*FLAGS, *flags, *played])
        try:
            page = await (await browser.new_context(**({"service_workers": "block"} | context))).new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
            await page.add_init_script(before)
            await page.goto(url.replace("ws", "http", 1))
            yield page
        finally:
            await browser.close()
    # Chromium logs failed connections as errors; tests make connections fail on purpose.
    unexpected = [text for text in wrong if "WebSocket connection to" not in text]
    assert not unexpected, unexpected


@asynccontextmanager
async def _driven(
    url: str,
    *,
    before: str,
    viewport: dict[str, int] | None = None,
    color_scheme: str = "",
    sound: bool = True,
    **_context: object,
) -> AsyncIterator[DrivenPage]:
    """Open the page in Firefox or WebKit."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        async with _running(Path(name), sound=sound) as (driver, tab):
            page = DrivenPage(driver, tab, before)
            await page.set_viewport_size(viewport or page.viewport_size)
            if color_scheme:  # no driver can set the system's, but the page has a setting for it
                await driver.navigate(tab, f"{url.split('/?', maxsplit=1)[0]}/livez", "")
                await page.evaluate(f"localStorage.setItem('speechbridge.theme', '{color_scheme}')")
            await page.goto(url)
            yield page


@asynccontextmanager
async def _running(folder: Path, *, sound: bool) -> AsyncIterator[tuple[Driver, str]]:
    if ENGINE.get() == "firefox":
        async with firefox(needs.firefox(), folder, sound=sound) as browser:
            yield browser, await browser.open_tab()
    else:
        async with webkit(needs.webkit(), folder) as mini_browser:
            yield mini_browser, await mini_browser.first_tab()


async def state(page: Page, name: str) -> None:
    await expect(page.locator("html")).to_have_attribute("data-state", name)


async def recorded(page: Page, seconds: int) -> None:
    """Wait until so many seconds of sound, fewer than ten, were recorded."""
    await happens(page, f"document.getElementById('elapsed').textContent >= '0:0{seconds}'")


async def captions(page: Page) -> list[str]:
    return [text.strip() for text in await page.locator("#finals p").all_inner_texts()]


async def until(page: Page, count: int) -> list[str]:
    """Wait for so many captions that are final."""
    await expect(page.locator("#finals > div")).to_have_count(count)
    return await captions(page)


async def happens(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true. The page's security policy forbids Playwright's own way to wait."""
    async with asyncio.timeout(PATIENCE / 1000):
        while not await page.evaluate(expression):  # noqa: ASYNC110 # it changes in another process
            await asyncio.sleep(0.05)


async def start(page: Page) -> None:
    await page.keyboard.press("Space")
    await state(page, "live")


async def refuse(page: Page, code: int, reason: str) -> None:
    """From now on, close each of the page's connections at once, with this code and reason."""
    await page.evaluate(REFUSED, {"code": code, "reason": reason})


REFUSED = """(close) => {
  globalThis.WebSocket = class {
    constructor() { setTimeout(() => this.onclose?.(close)); }
    send() {}
    close() {}
  };
}"""


async def crash(page: Page) -> Page:
    """Kill the page's renderer process, and return an empty tab of the same browser."""
    driven: object = page
    if isinstance(driven, DrivenPage):
        return cast("Page", await driven.crash())
    session = await page.context.new_cdp_session(page)
    crashing = asyncio.create_task(session.send("Page.crash"))  # a crashed page answers nothing
    async with page.expect_event("crash"):
        pass
    crashing.cancel()
    await asyncio.gather(crashing, return_exceptions=True)
    return await page.context.new_page()


async def address(page: Page) -> str:
    return str(await page.evaluate("location.href"))


async def noticed(page: Page, title: str, cure: str) -> None:
    """Expect a notice, announced to screen readers."""
    notice = page.get_by_role("alert")
    await expect(notice.get_by_role("heading")).to_have_text(title)
    await expect(notice).to_contain_text(cure)
