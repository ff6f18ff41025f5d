"""The overlay for streaming software: what its address can say, and what no viewer should see."""

from __future__ import annotations

import re

import pytest

from speechbridge.server.admission import make_key
from tests.helpers.browser import ALLOWED, FAKE, address, every_engine, expect, opened, state
from tests.helpers.lines import talk
from tests.helpers.secrets import KNOWN
from tests.helpers.service import service

MANY = [f"Line {number} of a long evening that never ends." for number in range(9)]

OPTIONS = "lines=3&size=1.5&font=serif&color=ffee00&background=00000000&position=top&align=left&fade=0"

# How OBS runs its browser source when it was started with these flags.
OBS = (ALLOWED, FAKE, "--enable-media-stream", "--autoplay-policy=no-user-gesture-required")


@every_engine
async def test_everything_about_the_overlay_is_said_in_its_address() -> None:
    async with service(talk(MANY, "and so on")) as server, opened(f"{server.url}/?view=overlay&{OPTIONS}") as page:
        await state(page, "live")
        await expect(page.locator("#partial")).to_have_text("and so on")
        captions = page.locator("#captions")
        await expect(captions).to_have_css("color", "rgb(255, 238, 0)")
        await expect(captions).to_have_css("font-family", re.compile("Georgia"))
        await expect(captions).to_have_css("text-align", "left")
        await expect(page.locator("#partial")).to_have_css("background-color", "rgba(0, 0, 0, 0)")
        box = await captions.bounding_box()
        size = float(await captions.evaluate("it => parseFloat(getComputedStyle(it).fontSize)"))
        assert box
        assert box["y"] < 100
        assert box["height"] == pytest.approx(3 * 1.5 * size, rel=0.02)
        assert size == pytest.approx(1.5 * 0.034 * 1280, rel=0.02)


async def test_the_source_of_an_overlay_is_chosen_by_a_part_of_its_name() -> None:
    asked = """
    window.asked = [];
    const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => {
      asked.push(wanted.audio.deviceId);
      return getUserMedia(wanted);
    };
    """
    url = "/?view=overlay&source=input%202"
    async with (
        service(talk(MANY)) as server,
        opened(server.url + url, before=asked, permissions=["microphone"]) as page,
    ):
        await state(page, "live")
        await expect(page.locator("#source option:checked")).to_have_text("Fake Audio Input 2")
        (device,) = await page.evaluate("asked")
        assert device["exact"]


@every_engine
async def test_a_key_in_the_fragment_is_used_remembered_and_taken_out_of_the_address() -> None:
    key, line = make_key("alice")
    KNOWN.add(key)
    for view in ("/?view=overlay", "/"):
        async with service(talk(MANY), api_keys=line) as server, opened(f"{server.url}{view}#key={key}") as page:
            if view == "/":
                await page.keyboard.press("Space")
            await state(page, "live")
            assert key not in await address(page)
            await page.goto("about:blank")
            await page.goto(server.url.replace("ws", "http", 1) + view)
            if view == "/":
                await page.keyboard.press("Space")
            await state(page, "live")


@every_engine
async def test_no_viewer_sees_a_form_for_a_key() -> None:
    _, line = make_key("alice")
    async with service(api_keys=line) as server, opened(f"{server.url}/?view=overlay") as page:
        notice = page.get_by_role("alert")
        await expect(notice.get_by_role("heading")).to_have_text("An API key is required")
        await expect(notice).to_contain_text("Add #key= and an API key to the address")
        await expect(page.locator("#key-form")).to_be_hidden()


async def test_it_starts_by_itself_in_a_browser_with_the_flags_of_obs() -> None:
    async with service(talk(MANY)) as server, opened(f"{server.url}/?view=overlay", flags=OBS) as page:
        await state(page, "live")
        await expect(page.locator("#finals")).to_contain_text(MANY[-1])
