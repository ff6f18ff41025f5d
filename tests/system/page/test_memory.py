"""Hours of captions: the page's memory does not grow with the audio, and hardly with the words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Element, Final, Partial
from tests.helpers.browser import happens, opened, state
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import CDPSession

SPEED = 40
MINUTES = 7  # of speech, in 11 s
UTTERANCE = 36  # frames of 100 ms: about a thousand finals an hour

# The real page, but its worklet makes 40 frames in the time of one, and its clock, which paces sending, runs 40 times
# as fast.
FAST = f"""
const began = Date.now(), now = Date.now;
Date.now = () => began + (now() - began) * {SPEED};
window.AudioWorkletNode = class extends GainNode {{
  constructor(context) {{
    super(context);
    let told = 0;
    const tell = (last) => {{
      const samples = Int16Array.from({{ length: 1600 }}, (_, n) => 3000 * Math.sin(n * told));
      this.port.onmessage?.({{ data: {{ samples, levels: [0.1, 0.2, 0.1, 0.2], time: ++told / 10, last }} }});
    }};
    const start = performance.now();
    const telling = setInterval(() => {{
      // No more at once than a page on a busy machine can take, or it would never get to anything else.
      for (let n = 0; n < 16 && told < ((performance.now() - start) / 100) * {SPEED}; n++) tell(false);
    }}, 20);
    this.port = {{ postMessage() {{ clearInterval(telling); tell(true); }} }};
  }}
}};
"""


def talker(audio: Iterator[bytes]) -> Iterator[str]:
    """Give a partial every 0.3 s of audio and a final every 3.6 s, like a person who never stops speaking."""
    frames = finals = 0
    heard = 0
    for chunk in audio:
        heard += len(chunk)
        while heard >= 3200 * (frames + 1):
            frames += 1
            end = frames / 10
            words = [Element(f"word{n}", "text", end - 0.3, end, 0.8) for n in range(frames % UTTERANCE // 3 + 1)]
            if frames % UTTERANCE == 0:
                finals += 1
                words = [Element(f"word{n}", "text", end - 0.3, end, 0.8) for n in range(12)]
                spaced = [element for word in words for element in (word, Element(" ", "punct"))]
                yield Final(end - 3.6, end, tuple(spaced)).encode()
            elif frames % 3 == 0:
                yield Partial(end - 1, end, tuple(words)).encode()


async def held(session: CDPSession) -> float:
    """Return the MiB that the page's code holds, audio and words, after a garbage collection.

    The document is not included: for each final on the page the browser keeps some 10 KiB.
    """
    await session.send("HeapProfiler.collectGarbage")
    usage = await session.send("Runtime.getHeapUsage")
    return float(usage["usedSize"] + usage["backingStorageSize"]) / 2**20


async def test_memory_grows_in_an_hour_only_with_the_words() -> None:
    async with service(talker) as server, opened(server.url, before=FAST) as page:
        session = await page.context.new_cdp_session(page)
        await page.keyboard.press("Space")
        await state(page, "live")
        figures = []
        for minute in range(2, MINUTES + 1):  # the first one fills the bounded buffers
            finals = minute * 600 // UTTERANCE
            async with asyncio.timeout(60):
                await happens(page, f"document.querySelectorAll('#finals > div').length >= {finals}")
            figures.append(await held(session))
        await page.keyboard.press("Space")
        await state(page, "ended")
    # Messages in transit count too, so take the lowest of three.
    early, late = figures[:3], figures[-3:]
    an_hour = (min(late) - min(early)) / (len(figures) - 3) * 60
    print([f"{figure:.2f}" for figure in figures], f"{an_hour:.1f} MiB an hour")  # noqa: T201 # measured
    assert an_hour < 30  # its audio would be 110; its words are 2; 0.5 MiB of noise in 3 minutes looks like 10
