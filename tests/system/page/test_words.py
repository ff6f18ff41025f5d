"""Words are corrected in their place; those of different speakers stand apart; the language can be chosen."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from speechbridge.settings import Settings
from tests.helpers.browser import captions, every_engine, expect, happens, opened, start, state, until
from tests.helpers.lines import LINES, final, talk
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Page

    from speechbridge.protocol.request import StreamRequest

WHERE = """([line, word]) => {
  const range = document.createRange(), text = document.querySelectorAll("#finals p")[line].firstChild;
  const at = text.data.indexOf(word);
  range.setStart(text, at);
  range.setEnd(text, at + word.length);
  const { x, y, width, height } = range.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
}"""


async def click(page: Page, line: int, word: str) -> None:
    """Click a word, and wait for the field that corrects it."""
    await page.mouse.click(*await page.evaluate(WHERE, [line, word]))
    await expect(page.locator("#correct input")).to_be_focused()
    await expect(page.locator("#correct input")).to_have_value(word)


async def stored(page: Page, text: str) -> None:
    """Wait until a corrected final is stored."""
    await happens(page, STORED.replace("TEXT", json.dumps(text)))


STORED = """new Promise((resolve) => {
  indexedDB.open("speechbridge").onsuccess = ({ target: { result } }) => {
    const reading = result.transaction("finals").objectStore("finals").getAll();
    reading.onsuccess = () => { result.close(); resolve(JSON.stringify(reading.result).includes(TEXT)); };
  };
})"""


@every_engine
async def test_a_word_is_corrected_by_a_click_and_stays_so() -> None:
    corrected = LINES[0].replace("town", "city and town")
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 3)
        await click(page, 0, "town")
        await page.keyboard.type("city and town")  # the spaces do not stop the recording
        await page.keyboard.press("Enter")
        await expect(page.locator("#correct")).to_be_hidden()
        assert await captions(page) == [corrected, *LINES[1:]]
        await state(page, "live")
        await stored(page, "city and town")
        await page.keyboard.press("Space")
        await state(page, "ended")
        await page.reload()
        assert await until(page, 3) == [corrected, *LINES[1:]]
        await page.keyboard.press("h")
        await page.get_by_label("Search transcripts").fill("city")
        await expect(page.locator("#transcripts mark")).to_have_text("city")
        await expect(page.locator("#transcripts strong")).to_have_text(corrected)


@every_engine
async def test_words_are_corrected_with_the_keyboard_alone() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 3)
        field = page.locator("#correct input")
        await page.keyboard.press("c")
        await expect(field).to_have_value("me.")
        await page.keyboard.type("us.")
        await page.keyboard.press("Shift+Tab")
        await expect(field).to_have_value("behind")
        await page.keyboard.type("beside")
        await page.keyboard.press("Escape")
        await expect(page.locator("#correct")).to_be_hidden()
        assert (await captions(page))[2] == LINES[2].replace("me.", "us.")
        await page.keyboard.press("Space")
        await state(page, "ended")


async def test_an_emptied_word_is_removed_and_its_confidence_was_the_recognizer_s() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 3)
        await click(page, 0, "and")
        await page.keyboard.press("Backspace")
        await page.keyboard.press("Enter")
        assert (await captions(page))[0] == "Good evening, welcome to the town hall."
        await click(page, 0, "town")
        await page.keyboard.type("city")
        await page.keyboard.press("Enter")
        await page.mouse.move(5, 300)
        await page.mouse.move(*await page.evaluate(WHERE, [0, "city"]))
        await expect(page.get_by_role("tooltip")).to_have_text("1.80 – 2.05 s")  # noqa: RUF001 # an en dash


async def test_the_field_stays_open_and_in_its_place_while_captions_arrive() -> None:
    speak = threading.Event()

    def later(audio: Iterator[bytes]) -> Iterator[str]:
        yield from talk(LINES[:1])(iter([b""]))
        for _ in audio:
            if speak.is_set():
                speak.clear()
                yield from (final(number, f"Line {number} of many.").encode() for number in range(1, 30))

    async with service(later) as server, opened(server.url) as page:
        await start(page)
        await until(page, 1)
        await click(page, 0, "town")
        before = await page.locator("#correct").bounding_box()
        await page.keyboard.type("city")
        speak.set()
        await until(page, 30)
        assert await page.locator("#correct").bounding_box() == before
        await page.keyboard.press("Enter")
        assert (await captions(page))[0] == LINES[0].replace("town", "city")
        await happens(page, "document.getElementById('captions').scrollTop > 100")  # it follows again


async def test_selecting_text_corrects_nothing() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 3)
        await page.mouse.move(*await page.evaluate(WHERE, [0, "evening,"]))
        await page.mouse.down()
        await page.mouse.move(*await page.evaluate(WHERE, [0, "town"]))
        await page.mouse.up()
        assert "welcome" in await page.evaluate("getSelection().toString()")
        await expect(page.locator("#correct")).to_be_hidden()


def said(ts: float, text: str, speakers: list[object], **message: object) -> str:
    """Write a final whose words are of these speakers, by the keys that engines use."""
    elements: list[dict[str, Any]] = []
    for number, (word, speaker) in enumerate(zip(text.split(), speakers, strict=True)):
        at = ts + 0.3 * number
        spoken = {} if speaker is None else {"speaker": speaker}
        elements += [{"type": "text", "value": word, "ts": at, "end_ts": at + 0.2, **spoken}]
        elements += [{"type": "punct", "value": " "}]
    return json.dumps({"type": "final", "ts": ts, "end_ts": ts + 2, "elements": elements[:-1], **message})


def conversation(audio: Iterator[bytes]) -> Iterator[str]:
    next(audio, None)
    yield said(0, "Good evening. Thank you.", [0, 0, 1, 1])
    yield said(3, "It is late.", [None] * 3, channel=1)
    yield said(6, "Nobody knows.", [None] * 2, speaker_id=1000)  # Rev.ai's unknown one
    yield said(9, "May I ask?", ["Maria"] * 3)
    yield said(12, "Please do.", [None] * 2, speaker_id="0")
    for _ in audio:
        pass


@every_engine
async def test_utterances_of_different_speakers_are_told_apart() -> None:
    async with service(conversation) as server, opened(server.url) as page:
        await start(page)
        lines = ["Good evening.", "Thank you.", "It is late.", "Nobody knows.", "May I ask?", "Please do."]
        labels = ["Speaker 1", "Speaker 2", None, None, "Maria", "Speaker 1"]
        shown = """[...document.querySelectorAll("#finals > div")].map((it) =>
          it.querySelector(".speaker")?.textContent ?? null)"""
        colors = """[...document.querySelectorAll("#finals .speaker")].map((it) => getComputedStyle(it).color)"""
        assert await until(page, 6) == lines
        assert await page.evaluate(shown) == labels
        one, two, three, four = await page.evaluate(colors)
        assert len({one, two, three}) == 3
        assert four == one
        await page.keyboard.press("Space")
        await state(page, "ended")
        await page.reload()
        assert await until(page, 6) == lines
        assert await page.evaluate(shown) == labels


@every_engine
async def test_the_language_is_chosen_where_the_engine_has_several() -> None:
    asked: list[object] = []

    def polyglot(audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
        asked.append(request.options.get("language"))
        yield from talk(LINES)(audio)

    async with service(polyglot, languages="en, es,de") as server, opened(server.url) as page:
        language = page.get_by_label("Language")
        await expect(language).to_be_visible()
        assert await page.evaluate("[...document.querySelectorAll('#language option')].map((it) => it.value)") == [
            "en",
            "es",
            "de",
        ]
        await start(page)
        await expect(language).to_be_disabled()
        await page.keyboard.press("Space")
        await state(page, "ended")
        await language.select_option("es")
        await page.reload()
        await expect(language).to_have_value("es")
        await start(page)
        await until(page, 6)
        assert asked == ["en", "es"]


async def test_without_a_choice_of_languages_there_is_no_list() -> None:
    for languages in ("", "en"):
        async with service(talk(LINES), languages=languages) as server, opened(server.url) as page:
            await start(page)
            await expect(page.locator("#language")).to_be_hidden()


def test_rev_ai_s_cloud_offers_its_languages_and_another_server_what_is_set() -> None:
    cloud = Settings.read(revai_access_token="token")
    assert {"en", "es", "ja"} <= {*cloud.offered_languages}
    assert cloud.offered_languages[0] == "en"
    assert Settings.read().offered_languages == ()
    assert Settings.read(revai_access_token="token", languages="de,en").offered_languages == ("de", "en")
    assert Settings.read(revai_access_token="token", revai_url="ws://127.0.0.1:1").offered_languages == ()
