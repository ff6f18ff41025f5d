"""axe-core finds nothing, in any view, panel or state, at any level."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.audit import audit
from tests.helpers.browser import expect, noticed, opened, refuse, speech, start, state, until
from tests.helpers.lines import LINES, talk
from tests.helpers.service import drop_streams, service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# The engines share the page and what it looks like: each is audited, not each in all looks.
LIGHT: dict[str, Any] = {"color_scheme": "light"}
DARK: dict[str, Any] = {"color_scheme": "dark"}
VIEWS: list[tuple[str, str, dict[str, Any]]] = [
    ("chromium", "/", LIGHT),
    ("chromium", "/", DARK),
    ("chromium", "/", LIGHT | {"viewport": {"width": 390, "height": 844}}),
    ("chromium", "/", DARK | {"viewport": {"width": 320, "height": 568}}),
    ("chromium", "/?view=overlay", DARK),
    ("firefox", "/", LIGHT | {"viewport": {"width": 320, "height": 568}}),
    ("firefox", "/?view=overlay", DARK),
    ("webkit", "/", DARK),
    ("webkit", "/?view=overlay", DARK),
]
NAMES = ["light", "dark", "phone", "small", "overlay", "firefox", "firefox-overlay", "webkit", "webkit-overlay"]
SCHEMES = pytest.mark.parametrize(
    ("engine", "scheme"),
    [("chromium", "light"), ("chromium", "dark"), ("firefox", "light"), ("webkit", "dark")],
    indirect=["engine"],
)


@pytest.mark.parametrize(("engine", "path", "options"), VIEWS, ids=NAMES, indirect=["engine"])
async def test_an_audit_of_accessibility_finds_nothing(path: str, options: dict[str, Any]) -> None:
    async with (
        service(talk(LINES, "and so on")) as server,
        opened(server.url + path, reduced_motion="reduce", **options) as page,
    ):
        if "overlay" in path:
            await state(page, "live")
        else:
            await audit(page)
            await start(page)
        await until(page, 3)
        await expect(page.locator("#partial")).to_have_text("and so on")
        await audit(page)
        if "overlay" not in path:
            await page.get_by_role("button", name="Save").click()
            await audit(page)
            await page.keyboard.press("Escape")
        if "overlay" in path:  # it starts by itself
            await refuse(page, 4001, "send a key")
            drop_streams(server)
        else:
            await page.reload()
            await refuse(page, 4001, "send a key")
            await page.keyboard.press("Space")
        await expect(page.get_by_role("alert")).to_contain_text("send a key")
        await audit(page)


@SCHEMES
async def test_an_audit_of_all_panels_finds_nothing(scheme: str, tmp_path: Path) -> None:
    async with (
        service(talk(LINES, "and so on")) as server,
        opened(server.url, reduced_motion="reduce", color_scheme=scheme) as page,
    ):
        await page.locator("#file").set_input_files(speech(tmp_path))
        await expect(page.locator("#player")).to_be_visible()
        await until(page, 3)
        await page.keyboard.press("t")
        await audit(page)
        await page.keyboard.press("Escape")
        await page.keyboard.press("?")
        await audit(page)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.keyboard.press("h")
        await page.locator("summary").click()
        await audit(page)
        await page.get_by_role("button", name="Rename").click()
        await audit(page)
        await page.get_by_label("Search transcripts").fill("town")
        await expect(page.locator("mark")).to_have_text("town")
        await audit(page)
        await page.keyboard.press("Escape")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.keyboard.press("c")
        await expect(page.locator("#correct input")).to_be_focused()
        await audit(page)


@pytest.mark.parametrize(  # the third engine needs a window manager for it
    ("engine", "scheme"), [("chromium", "light"), ("chromium", "dark"), ("firefox", "light")], indirect=["engine"]
)
async def test_an_audit_of_a_wall_finds_nothing(scheme: str) -> None:
    async with (
        service(talk(LINES, "and so on")) as server,
        opened(server.url, reduced_motion="reduce", color_scheme=scheme) as page,
    ):
        await start(page)
        await until(page, 3)
        await page.keyboard.press("f")
        await expect(page.locator("footer")).to_have_css("opacity", "0")
        await audit(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("contrast", ["normal", "high"])
async def test_an_audit_of_speakers_and_languages_finds_nothing(scheme: str, contrast: str) -> None:
    chosen = f"localStorage.setItem('speechbridge.contrast', '{contrast}')"
    async with (
        service(panel, languages="en,es") as server,
        opened(server.url, reduced_motion="reduce", color_scheme=scheme, before=chosen) as page,
    ):
        await start(page)
        await until(page, len(VOICES))
        await expect(page.locator("#language")).to_be_visible()
        await audit(page)


VOICES = ["0", "1", "2", "Ann", "Bo", "Maria Magdalena", "7"]


def panel(audio: Iterator[bytes]) -> Iterator[str]:
    """Let each of more speakers than there are colors say a word, and one begin another."""
    next(audio, None)
    for number, speaker in enumerate(VOICES):
        spoken = {"type": "text", "value": "Welcome.", "ts": number, "end_ts": number + 0.5, "speaker": speaker}
        yield json.dumps({"type": "final", "ts": number, "end_ts": number + 0.5, "elements": [spoken]})
    yield json.dumps({"type": "partial", "ts": 9, "end_ts": 9.5, "elements": [spoken | {"speaker": "1"}]})
    for _ in audio:
        pass


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_audit_with_high_contrast_finds_nothing(scheme: str) -> None:
    high = "localStorage.setItem('speechbridge.contrast', 'high')"
    async with (
        service(talk(LINES, "and so on")) as server,
        opened(server.url, reduced_motion="reduce", color_scheme=scheme, before=high) as page,
    ):
        await audit(page)
        await start(page)
        await until(page, 3)
        await audit(page)
        await page.keyboard.press("h")
        await audit(page)
        await page.keyboard.press("Escape")
        await page.reload()
        await refuse(page, 4001, "send a key")
        await page.keyboard.press("Space")
        await expect(page.get_by_role("alert")).to_contain_text("send a key")
        await audit(page)


async def test_an_audit_while_the_service_is_away_and_after_a_deletion_finds_nothing() -> None:
    async with service(talk(LINES)) as server, opened(server.url, reduced_motion="reduce") as page:
        await start(page)
        await until(page, 3)
        await page.keyboard.press("Space")
        await state(page, "ended")
        await page.keyboard.press("h")
        await page.locator("summary").click()
        await page.get_by_role("button", name="Delete", exact=True).click()
        await expect(page.get_by_role("button", name="Undo")).to_be_focused()
        await audit(page)
        await page.keyboard.press("Escape")
        await start(page)
        await refuse(page, 1006, "")
        drop_streams(server)
        await state(page, "reconnecting")
        await audit(page)
        await noticed(page, "The service cannot be reached", "keeps trying")
        await audit(page)
        await page.keyboard.press("Space")
        await state(page, "waiting")
        await audit(page)
