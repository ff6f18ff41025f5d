"""The speaker shares a link, and somebody else reads along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.audit import audit
from tests.helpers.browser import ALLOWED, FAKE, expect, opened, silence, start, state
from tests.helpers.lines import LINES, talk
from tests.helpers.service import service

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page


# Whether a line of the notice's text runs under its button; on a screen on which a line is as long as it can be.
OVERLAPS = """(() => {
  const button = document.querySelector("#dismiss").getBoundingClientRect();
  const text = document.createRange();
  text.selectNodeContents(document.querySelector("#notice .text"));
  return [...text.getClientRects()].some((it) => it.right > button.left && it.top < button.bottom - 1);
})()"""


async def shared(page: Page) -> str:
    """Turn sharing on, record, and return the link."""
    await page.locator("#open-share").click()
    await page.get_by_label("Let others read along").check()
    await expect(page.locator("#share-status")).to_have_text("The link appears when the next recording begins.")
    await page.keyboard.press("Escape")
    await start(page)
    await state(page, "live")
    await page.locator("#open-share").click()
    return await page.locator("#share-link").input_value()


async def test_whoever_has_the_link_reads_along(tmp_path: Path) -> None:
    async with (
        service(talk(LINES, "and so on")) as server,
        opened(server.url, microphone=silence(tmp_path, 5.0), once=False) as speaker,
    ):
        link = await shared(speaker)
        assert link.startswith(server.url.replace("ws", "http", 1) + "/?read=")
        drawn = await speaker.locator("#share-code").evaluate("async it => (await it.decode(), it.naturalWidth)")
        assert drawn > 20
        await audit(speaker)
        async with opened(link.replace("http", "ws", 1)) as reader:
            await state(reader, "live")
            await expect(reader.locator("#finals")).to_contain_text(LINES[2])
            await expect(reader.locator("#partial")).to_have_text("and so on")
            await expect(reader.locator("#start")).not_to_be_visible()
            await audit(reader)
            await speaker.keyboard.press("Escape")
            await speaker.locator("#start").click()
            await state(reader, "ended")
        async with opened(f"{link.replace('http', 'ws', 1)}&view=overlay") as overlay:
            await state(overlay, "ended")
            await expect(overlay.locator("#finals")).to_contain_text(LINES[2])


async def test_without_sharing_there_is_no_link(tmp_path: Path) -> None:
    async with service(talk(LINES)) as server, opened(server.url, microphone=silence(tmp_path)) as page:
        await start(page)
        await expect(page.locator("#finals")).to_contain_text(LINES[2])
        await page.locator("#open-share").click()
        await expect(page.locator("#share-how")).not_to_be_visible()


async def test_an_address_that_is_this_machines_own_is_said_to_be_no_use_to_others() -> None:
    elsewhere = "captions.example"
    resolved = f"--host-resolver-rules=MAP {elsewhere} 127.0.0.1"
    async with service() as server:
        for host, is_told in (("127.0.0.1", True), ("localhost", True), (elsewhere, False)):
            url = server.url.replace("127.0.0.1", host)
            async with opened(url, flags=(ALLOWED, FAKE, resolved)) as page:
                told = page.get_by_text("Only this machine can open this address")
                await page.locator("#open-share").click()
                await expect(told).not_to_be_visible()
                await page.get_by_label("Let others read along").check()
                await expect(page.locator("#share-status")).to_be_visible()
                await expect(told).to_be_visible(visible=is_told)


async def test_a_link_that_leads_nowhere_says_so() -> None:
    # Chromium itself says that the address failed.
    with pytest.raises(AssertionError, match="404"):  # noqa: PT012 # it fails at its end
        async with (
            service() as server,
            opened(server.url + "/?read=nothing", viewport={"width": 700, "height": 600}) as page,
        ):
            await expect(page.locator("#notice h2")).to_have_text("There is nothing to read here")
            await state(page, "stopped")
            empty = (await page.locator("#empty").inner_text()).split("\n")
            assert [line for line in empty if line] == ["Read along.", "Captions appear here while somebody speaks."]
            assert not await page.evaluate(OVERLAPS)
            is_told = True
    assert is_told
